"""bitsandbytes' optimizers: Adam with states in 8 bits, and Lion."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from acetrain.training.optimizer import Adam, Group, Moments

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class AdamW8bit(Adam):
    """AdamW with block-wise quantised states (Dettmers et al. 2022); weights below 4096 elements keep 32 bits."""

    state_bytes: ClassVar[float] = 2.1

    def over(self, groups: list[Group]) -> "Optimizer":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(groups, betas=(self.beta1, self.beta2), eps=self.eps)


@dataclass
class PagedAdamW8bit(AdamW8bit):
    """AdamW8bit whose states move to main memory where the GPU's is short; on a CPU they are there already."""

    def over(self, groups: list[Group]) -> "Optimizer":
        import bitsandbytes

        if all(parameter.device.type == "cpu" for group in groups for parameter in group["params"]):
            return super().over(groups)
        return bitsandbytes.optim.PagedAdamW8bit(groups, betas=(self.beta1, self.beta2), eps=self.eps)


@dataclass
class Lion(Moments):
    """Steps by the sign of the gradient's mean (Chen et al. 2023); wants a tenth of AdamW's lr, ten times its decay."""

    state_bytes: ClassVar[float] = 4

    beta1: float
    """Share of the old mean in the direction of a step, in [0, 1)."""
    beta2: float
    """Decay of the gradient's mean, in [0, 1)."""

    def over(self, groups: list[Group]) -> "Optimizer":
        import bitsandbytes

        return bitsandbytes.optim.Lion(groups, betas=(self.beta1, self.beta2))


@dataclass
class Lion8bit(Lion):
    """Lion with a block-wise quantised state; weights below 4096 elements keep 32 bits."""

    state_bytes: ClassVar[float] = 1.1

    def over(self, groups: list[Group]) -> "Optimizer":
        import bitsandbytes

        return bitsandbytes.optim.Lion8bit(groups, betas=(self.beta1, self.beta2))
