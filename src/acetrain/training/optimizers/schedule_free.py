"""AdamW that averages its weights in place of a schedule."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from acetrain.errors import require
from acetrain.training.optimizer import Adam, Group

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class AdamWScheduleFree(Adam):
    """AdamW whose averaged weights are judged and saved, in place of a schedule (Defazio et al. 2024), Meta's own."""

    beta1: float
    """Share of the average in the weights that gradients are taken at, in (0, 1)."""

    package: ClassVar[str] = "schedulefree"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta1 > 0, "optimizer.beta1", "in (0, 1)", self.beta1)

    def over(self, groups: list[Group]) -> "Optimizer":
        import schedulefree

        optimizer = schedulefree.AdamWScheduleFree(groups, betas=(self.beta1, self.beta2), eps=self.eps)
        optimizer.train()
        return optimizer

    @property
    def averages(self) -> bool:
        return True

    def evaluating(self, optimizer: "Optimizer") -> AbstractContextManager[None]:
        from acetrain.training.optimizers.averaging import averaged

        return averaged(optimizer)
