"""How the learning rate runs over a training: a factor of its peak for each step."""

import math
from dataclasses import dataclass, replace

from acetrain.errors import require


@dataclass
class Schedule:
    """A linear warm-up, then the option's own curve."""

    warmup: int
    """Steps over which the learning rate rises from 0 to its peak; 0 for none."""

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "schedule.warmup", "at least 0 steps", self.warmup)

    def factor(self, step: int, total: int) -> float:
        """The factor in [0, 1] of step 0..total-1."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.after_warmup(min(1.0, (step - self.warmup) / max(1, total - self.warmup)))

    def after_warmup(self, progress: float) -> float:
        """The factor at `progress` in [0, 1] of the steps after the warm-up."""
        raise NotImplementedError


@dataclass
class Constant(Schedule):
    """The peak, to the end."""

    def after_warmup(self, progress: float) -> float:
        return 1.0


@dataclass
class Cosine(Schedule):
    """Half a cosine from the peak down to `floor` (Loshchilov and Hutter 2017, without restarts)."""

    floor: float
    """Factor at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.floor <= 1, "schedule.floor", "in [0, 1]", self.floor)

    def after_warmup(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Horizon:
    """The run a schedule is laid over. Extending a run lays it over more steps, but never raises the learning rate."""

    total: int
    ceiling: float = 1.0
    """No factor after the warm-up goes above this."""

    def factor(self, schedule: Schedule, step: int) -> float:
        """The factor of `step`, counted from 0."""
        factor = schedule.factor(step, self.total)
        return factor if step < schedule.warmup else min(factor, self.ceiling)

    def extended(self, schedule: Schedule, step: int, total: int) -> "Horizon":
        """The horizon of a run that has done `step` steps and is to go on to `total`."""
        if total == self.total:
            return self
        reached = self.factor(schedule, step - 1) if step > schedule.warmup else self.ceiling
        return replace(self, total=total, ceiling=reached)
