"""Optimizers that keep the squared gradient of a matrix as its rows' and its columns' means."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from acetrain.errors import require
from acetrain.training.optimizer import Group, Moments, OptimizerOption

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class Adafactor(OptimizerOption):
    """Adam with a factored second moment and no first (Shazeer and Stern 2018), as transformers has it."""

    state_bytes: ClassVar[float] = 0.1

    decay_rate: float
    """Exponent of the second moment's decay, 1 - step**decay_rate, below 0."""
    clip_threshold: float
    """Largest root mean square of an update, above 0."""
    eps: float
    """Added to the squared gradient, above 0."""
    scale_parameter: bool
    """Whether lr is a share of each weight's root mean square, of at least 1e-3; a fresh LoRA's B is zero."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(-math.inf < self.decay_rate < 0, "optimizer.decay_rate", "below 0 and finite", self.decay_rate)
        require(
            0 < self.clip_threshold < math.inf, "optimizer.clip_threshold", "above 0 and finite", self.clip_threshold
        )
        require(0 < self.eps < math.inf, "optimizer.eps", "above 0 and finite", self.eps)

    def over(self, groups: list[Group]) -> "Optimizer":
        from transformers.optimization import Adafactor as Factored

        return Factored(
            groups,
            eps=(self.eps, 1e-3),
            clip_threshold=self.clip_threshold,
            decay_rate=self.decay_rate,
            scale_parameter=self.scale_parameter,
            relative_step=False,
        )


@dataclass
class Came(Moments):
    """Adafactor with a first moment, guided by how sure its updates are (Luo et al. 2023), as pytorch-optimizer has
    it."""

    beta3: float
    """Decay of the squared difference between update and its mean, in [0, 1)."""
    clip_threshold: float
    """Largest root mean square of an update, above 0."""

    state_bytes: ClassVar[float] = 4.2
    package: ClassVar[str] = "pytorch_optimizer"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta3 < 1, "optimizer.beta3", "in [0, 1)", self.beta3)
        require(
            0 < self.clip_threshold < math.inf, "optimizer.clip_threshold", "above 0 and finite", self.clip_threshold
        )

    def over(self, groups: list[Group]) -> "Optimizer":
        import pytorch_optimizer

        betas = (self.beta1, self.beta2, self.beta3)
        return pytorch_optimizer.CAME(groups, betas=betas, clip_threshold=self.clip_threshold)
