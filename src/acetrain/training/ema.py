"""Whether a run also keeps a running average of the adapter's weights."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import Refused, require
from acetrain.training.optimizer import OptimizerOption

if TYPE_CHECKING:
    from torch import nn

    from acetrain.training.average import Average

AVERAGED = "_ema"
"""What the names of files and figures of averaged weights end with."""


@dataclass
class EmaOption:
    """What is kept beside the weights that train."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the names of files and figures of each judged set of weights end with."""
        return ("",)

    def check(self, optimizer: OptimizerOption, steps: int) -> None:
        """Raise Refused where the option does not go with the optimizer or a run of `steps` steps."""

    def over(self, weights: "Iterable[nn.Parameter]") -> "Average | None":
        """The average, which starts at the present values; None where none is kept."""
        return None

    def untrained(self, steps: int) -> float:
        """Share of the first averaged weights in the average after `steps` steps of the run."""
        return 0.0


@dataclass
class NoEma(EmaOption):
    """No average: the weights that train are the ones that are judged and saved."""


@dataclass
class Ema(EmaOption):
    """An exponential moving average of the adapter's weights beside the weights themselves, which train as without it.

    average = d average + (1 - d) weights after every step (Polyak and Juditsky 1992 with exponential weights, torch's
    `swa_utils`), d rising to `decay`. Both are judged: `val_loss` and `best/` belong to the weights, `val_loss_ema` and
    `best_ema/` to the average, each by its own lowest held-out loss. Both are saved: `adapter/` and `adapter_ema/`.
    Skipped steps leave the average as it is.
    """

    decay: float
    """Share of the average that stays at each step, in (0, 1): it looks back about 1 / (1 - decay) steps."""
    warmup: float
    """After n averaged steps the decay is at most (1 + n) / (warmup + n), so that a young average looks back over about
    1 / (warmup - 1) of its steps and not at its start (TensorFlow's `ExponentialMovingAverage`, diffusers' `EMAModel`:
    10). At least 1, which leaves it at `decay` from the first step."""
    start: int
    """Steps before the averaging begins, at least 0; until then the average is the weights."""

    def __post_init__(self) -> None:
        require(0 < self.decay < 1, "ema.decay", "in (0, 1)", self.decay)
        require(1 <= self.warmup < math.inf, "ema.warmup", "at least 1 and finite", self.warmup)
        require(self.start >= 0, "ema.start", "at least 0 steps", self.start)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("", AVERAGED)

    def check(self, optimizer: OptimizerOption, steps: int) -> None:
        if optimizer.averages:
            raise Refused(f"ema: must be none with {optimizer.kind}, which averages its weights itself")
        require(self.start < steps, "ema.start", f"below the {steps} steps of the run", self.start)

    def over(self, weights: "Iterable[nn.Parameter]") -> "Average":
        from acetrain.training.average import Average

        return Average(weights, self.decay_after, self.start)

    def decay_after(self, averaged: int) -> float:
        """The decay after `averaged` steps have gone into the average, the first weights among them."""
        return min(self.decay, (1 + averaged) / (self.warmup + averaged))

    def untrained(self, steps: int) -> float:
        return math.prod(self.decay_after(averaged) for averaged in range(1, steps - self.start + 1))
