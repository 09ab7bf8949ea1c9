"""Prodigy: Adam that estimates its own step size d from how far the weights have come."""

import math
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, ClassVar

from acetrain.errors import require
from acetrain.training.optimizer import Adam, Group

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class Prodigy(Adam):
    """Adam with its step size estimated as d (Mishchenko and Defazio 2024); lr is a factor of d, 1 as a rule."""

    state_bytes: ClassVar[float] = 16

    d0: float
    """First estimate of d, above 0."""
    d_coef: float
    """Factor of the estimate, above 0; 0.5 to 2 is usual."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.d0 < math.inf, "optimizer.d0", "above 0 and finite", self.d0)
        require(0 < self.d_coef < math.inf, "optimizer.d_coef", "above 0 and finite", self.d_coef)
        one = "empty, as one d is estimated for all weights"
        require(not self.lr_factors, "optimizer.lr_factors", one, dict(self.lr_factors))

    def over(self, groups: list[Group]) -> "Optimizer":
        import prodigyopt

        with redirect_stdout(StringIO()):  # it prints that its weight decay is decoupled
            return prodigyopt.Prodigy(
                groups,
                lr=self.lr,
                betas=(self.beta1, self.beta2),
                eps=self.eps,
                d0=self.d0,
                d_coef=self.d_coef,
                use_bias_correction=True,
                safeguard_warmup=True,
            )

    def figures(self, optimizer: "Optimizer") -> dict[str, float]:
        """The present d, which lr scales."""
        return {"d": float(optimizer.param_groups[0]["d"])}


@dataclass
class ProdigyScheduleFree(Prodigy):
    """Prodigy that averages its weights in place of a schedule (Defazio et al. 2024), as Prodigy Plus has it."""

    beta1: float
    """Share of the average in the weights that gradients are taken at, in (0, 1)."""

    package: ClassVar[str] = "prodigyplus"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta1 > 0, "optimizer.beta1", "in (0, 1)", self.beta1)

    def over(self, groups: list[Group]) -> "Optimizer":
        from prodigyplus import ProdigyPlusScheduleFree

        return ProdigyPlusScheduleFree(
            groups,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            d0=self.d0,
            d_coef=self.d_coef,
            split_groups=False,
        )

    @property
    def averages(self) -> bool:
        return True

    def evaluating(self, optimizer: "Optimizer") -> AbstractContextManager[None]:
        from acetrain.training.optimizers.averaging import averaged

        return averaged(optimizer)
