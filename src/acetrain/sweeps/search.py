"""The options of a search: what is tried, by what it is judged, and when a weak run ends early."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from acetrain.errors import require

if TYPE_CHECKING:
    from acetrain.jobs.train import Train

DIGITS = 4
"""Significant digits of a proposed value of a range without steps."""
EXACT = 12
"""Those of one with steps, which sums of floats miss by the last digits."""


class Metric(Enum):
    """The held-out loss that is to be small."""

    val_loss = "val_loss"
    val_loss_ema = "val_loss_ema"


class Sampler(Enum):
    """What proposes values."""

    tpe = "tpe"
    random = "random"


class Stopping(Enum):
    """What ends weak runs early."""

    asha = "asha"
    median = "median"
    none = "none"


@dataclass
class Pruner:
    """When a run is ended early. Its best adapter and its checkpoint are kept."""

    kind: Stopping
    """asha: successive halving without waiting (Li et al. 2020), in its form that ends runs; median: a run whose best
    loss so far is worse than the median of the others at this step; none: each run comes to its end."""
    min_steps: int
    """Steps before which no run is ended; the first rung of asha. Losses are compared at the first validation at or
    after a rung: `trainer.validate_every` should divide it."""
    reduction: int
    """asha: of the runs that have come to a rung, one in this many goes on, and the next rung is this many times as
    far."""
    startup: int
    """median: runs that come to their end before any is ended early."""

    def __post_init__(self) -> None:
        require(self.min_steps >= 1, "search.pruner.min_steps", "at least 1", self.min_steps)
        require(self.reduction >= 2, "search.pruner.reduction", "at least 2", self.reduction)
        require(self.startup >= 1, "search.pruner.startup", "at least 1", self.startup)

    def told(self) -> str:
        """In a few words."""
        words = {
            Stopping.asha: f"from step {self.min_steps} on one in {self.reduction} goes on at each rung",
            Stopping.median: f"from step {self.min_steps} on the worse half ends, after {self.startup} runs",
            Stopping.none: "each comes to its end",
        }
        return words[self.kind]


@dataclass
class Axis:
    """The values of one key: a range, or choices."""

    low: float | None = None
    """Smallest value."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Whether values are drawn evenly by their logarithm."""
    step: float | None = None
    """Distance between values, counted from `low`; null for any value, or any whole number where the key is one."""
    choices: list[Any] | None = None
    """Values in no order: options of a group, or values of the key."""

    def check(self, key: str) -> None:
        """Raise Refused unless this is either a range or choices; `key` is what it is for."""
        where = f"search.space.{key}"
        ends = [end for end in (self.low, self.high, self.step) if end is not None]
        if self.choices is not None:
            require(bool(self.choices), f"{where}.choices", "at least one value", self.choices)
            require(not ends and not self.log, where, "either choices, or low and high", "both")
            written = [repr(choice) for choice in self.choices]
            require(len(set(written)) == len(written), f"{where}.choices", "different values", self.choices)
            return
        given = "neither" if self.low is None and self.high is None else "one of them"
        require(self.low is not None and self.high is not None, where, "a range, low and high, or choices", given)
        assert self.low is not None and self.high is not None
        require(self.low < self.high, f"{where}.low", f"below high, which is {self.high:g}", self.low)
        require(not self.log or self.low > 0, f"{where}.low", "above 0 where log is true", self.low)
        require(not self.log or self.step is None, f"{where}.step", "null where log is true", self.step)
        span = self.high - self.low
        require(self.step is None or 0 < self.step <= span, f"{where}.step", f"above 0, at most {span:g}", self.step)

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of a range."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    @property
    def labels(self) -> list[Any]:
        """Choices as a storage can keep them: what is no plain value by its JSON."""
        plain = (bool, int, float, str, type(None))
        return [choice if isinstance(choice, plain) else json.dumps(choice) for choice in self.choices or ()]

    def corners(self) -> list[Any]:
        """The values at its ends, or every choice."""
        return list(self.choices) if self.choices is not None else [_plain(end) for end in self.ends]

    def told(self) -> str:
        """The values in words."""
        if self.choices is not None:
            return ", ".join(map(str, self.choices))
        low, high = map(_plain, self.ends)
        return f"{low} to {high}" + (" by its logarithm" if self.log else f" by {self.step:g}" if self.step else "")

    def value(self, proposed: Any) -> Any:
        """What the key is set to for a proposed value: the choice, or the number to as many digits as matter."""
        if self.choices is not None:
            return self.choices[self.labels.index(proposed)]
        low, high = self.ends
        digits = DIGITS if self.step is None else EXACT
        return _plain(min(max(float(f"{proposed:.{digits}g}"), low), high))


def _plain(value: float) -> int | float:
    """A number as a key of whole numbers takes it, too."""
    return int(value) if value == int(value) else value


@dataclass
class Search:
    """A search by Optuna over the values of a job's keys: `search:` in a sweep's file, in place of `grid:`."""

    trials: int
    """Runs to try; those ended early and those that failed count."""
    metric: Metric
    """What is to be small: the mean held-out loss on the fixed grid, its lowest of a run, or that of the averaged
    weights of `ema=ema`."""
    seed: int
    """Seed of what is proposed: with one worker the same search tries the same values."""
    storage: str
    """Where what is known is kept, for all processes that take part: empty for a journal in the sweep's folder, a
    file's path, or a database's URL, such as `${oc.env:SEARCH_STORAGE}`, which is written nowhere."""
    sampler: Sampler
    """tpe: a tree-structured Parzen estimator over all keys together (Bergstra et al. 2011); random: evenly."""
    pruner: Pruner
    space: dict[str, Axis]
    """Key of the job -> {low, high, log, step}, or {choices}."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "search.trials", "at least 1", self.trials)
        require(0 <= self.seed < 2**32, "search.seed", "a whole number from 0 to 2**32 - 1", self.seed)
        for key, axis in self.space.items():
            axis.check(key)

    def check(self, job: "Train") -> None:
        """Raise Refused where a job of the search could not be judged, or would never be ended early as asked for."""
        kinds = [f"val_loss{kind}" for kind in job.ema.kinds]
        require(
            self.metric.name in kinds, "search.metric", f"one of {', '.join(kinds)} with this ema", self.metric.name
        )
        held = "above 0, as a search needs songs held out (and 5 songs at least)"
        require(bool(job.split[1]), "data.validation", held, job.data.validation)
        if self.pruner.kind is not Stopping.none:
            first = -(-self.pruner.min_steps // job.trainer.validate_every) * job.trainer.validate_every
            rule = (
                f"such that a validation after it (trainer.validate_every={job.trainer.validate_every}) "
                f"is before the last step, {job.total_steps}"
            )
            require(first < job.total_steps, "search.pruner.min_steps", rule, self.pruner.min_steps)
