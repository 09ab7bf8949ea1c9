"""How the learning rate runs over a training: a factor of its peak for each step."""

import math
from dataclasses import dataclass, replace
from enum import Enum

from acetrain.errors import require


@dataclass
class Schedule:
    """A linear warm-up, then the option's own curve."""

    warmup: int
    """Steps over which the learning rate rises from 0 to its peak; 0 for none, or for `warmup_share`."""
    warmup_share: float
    """Share of the run's steps over which it rises instead, in [0, 1); 0 for none, or for `warmup`."""

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "schedule.warmup", "at least 0 steps", self.warmup)
        require(0 <= self.warmup_share < 1, "schedule.warmup_share", "in [0, 1)", self.warmup_share)
        one = not (self.warmup and self.warmup_share)
        require(one, "schedule.warmup_share", f"0 where schedule.warmup is {self.warmup}", self.warmup_share)

    def warmup_steps(self, total: int) -> int:
        """Steps of the warm-up of a run of `total` steps."""
        return self.warmup or math.floor(self.warmup_share * total)

    def factor(self, step: int, total: int, warmup: int | None = None) -> float:
        """The factor in [0, 1] of step 0..total-1; `warmup` steps of it rise, None for as many as `total` asks for."""
        rising = self.warmup_steps(total) if warmup is None else warmup
        if step < rising:
            return (step + 1) / rising
        return self.after_warmup(min(1.0, (step - rising) / max(1, total - rising)))

    def after_warmup(self, progress: float) -> float:
        """The factor at `progress` in [0, 1] of the steps after the warm-up."""
        raise NotImplementedError


@dataclass
class Constant(Schedule):
    """The peak, to the end."""

    def after_warmup(self, progress: float) -> float:
        return 1.0


@dataclass
class Decaying(Schedule):
    """A curve from the peak down to a floor."""

    floor: float
    """Factor at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.floor <= 1, "schedule.floor", "in [0, 1]", self.floor)

    def after_warmup(self, progress: float) -> float:
        return self.floor + (1 - self.floor) * self.height(progress)

    def height(self, progress: float) -> float:
        """How far above the floor the curve is, as a share of the way from floor to peak: 1 at the start, 0 at the
        end."""
        raise NotImplementedError


@dataclass
class Linear(Decaying):
    """A straight line from the peak down to `floor`."""

    def height(self, progress: float) -> float:
        return 1 - progress


@dataclass
class Cosine(Decaying):
    """Half a cosine from the peak down to `floor` (Loshchilov and Hutter 2017, without restarts)."""

    def height(self, progress: float) -> float:
        return half_cosine(progress)


@dataclass
class Polynomial(Decaying):
    """A power of the share of steps left, from the peak down to `floor`."""

    power: float
    """Exponent, above 0: 1 is a straight line, 2 falls early, 0.5 late."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.power < math.inf, "schedule.power", "above 0 and finite", self.power)

    def height(self, progress: float) -> float:
        return (1 - progress) ** self.power


@dataclass
class Rex(Decaying):
    """Reflected exponential: slow at first, steep at the end (Chen, Wolfe and Kyrillidis 2021, REX)."""

    def height(self, progress: float) -> float:
        """(1 - p) / (1/2 + 1/2 (1 - p)), the paper's profile at every step."""
        return (1 - progress) / (0.5 + 0.5 * (1 - progress))


@dataclass
class CosineRestarts(Decaying):
    """Half cosines that start anew (Loshchilov and Hutter 2017, SGDR, Eq. 5).

    A run that is extended lays its cycles over the new total, and no restart rises above the factor it had reached:
    one that had come down to `floor` stays there.
    """

    cycles: int
    """Cosines after the warm-up, at least 1."""
    growth: float
    """How many times longer each cycle is than the one before, at least 1 (T_mult)."""
    decay: float
    """Peak of each cycle as a share of the way from floor to the peak before it, in (0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.cycles >= 1, "schedule.cycles", "at least 1", self.cycles)
        require(1 <= self.growth < math.inf, "schedule.growth", "at least 1 and finite", self.growth)
        require(0 < self.decay <= 1, "schedule.decay", "in (0, 1]", self.decay)

    def height(self, progress: float) -> float:
        length = 1 / math.fsum(self.growth**cycle for cycle in range(self.cycles))
        start, peak = 0.0, 1.0
        for _ in range(self.cycles - 1):
            if progress < start + length - 1e-9:  # a step that begins a cycle may fall short of it by a rounding
                break
            start, length, peak = start + length, length * self.growth, peak * self.decay
        return peak * half_cosine(min(1.0, max(0.0, progress - start) / length))


class Descent(Enum):
    """How a warm-up-stable-decay schedule comes down."""

    linear = "linear"
    cosine = "cosine"
    sqrt = "sqrt"


@dataclass
class WarmupStableDecay(Decaying):
    """The peak for most of the run, then down to `floor` (Hu et al. 2024, MiniCPM, WSD)."""

    decay_share: float
    """Share of the steps after the warm-up over which it comes down, in (0, 1]."""
    descent: Descent
    """Shape of the way down: linear, half a cosine, or 1 - sqrt (Hägele et al. 2024)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.decay_share <= 1, "schedule.decay_share", "in (0, 1]", self.decay_share)

    def height(self, progress: float) -> float:
        down = max(0.0, progress - (1 - self.decay_share)) / self.decay_share
        if self.descent is Descent.cosine:
            return half_cosine(down)
        return 1 - (math.sqrt(down) if self.descent is Descent.sqrt else down)


def half_cosine(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1."""
    return (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Horizon:
    """The run a schedule is laid over. Extending a run lays it over more steps, but never raises the learning rate."""

    total: int
    ceiling: float = 1.0
    """No factor after the warm-up goes above this."""
    first: int = 0
    """Steps the run was first to have, whose share the warm-up is; 0 for `total`."""

    def warmup(self, schedule: Schedule) -> int:
        """Steps of the warm-up: an extension makes it no longer."""
        return schedule.warmup_steps(self.first or self.total)

    def factor(self, schedule: Schedule, step: int) -> float:
        """The factor of `step`, counted from 0."""
        warmup = self.warmup(schedule)
        factor = schedule.factor(step, self.total, warmup)
        return factor if step < warmup else min(factor, self.ceiling)

    def extended(self, schedule: Schedule, step: int, total: int) -> "Horizon":
        """The horizon of a run that has done `step` steps and is to go on to `total`."""
        if total == self.total:
            return self
        reached = self.factor(schedule, step - 1) if step > self.warmup(schedule) else self.ceiling
        return replace(self, total=total, ceiling=reached, first=self.first or self.total)
