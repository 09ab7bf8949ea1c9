"""What the figures of a run say while it trains, as rules: each speaks once a run."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from acetrain.training import advice
from acetrain.training.optimizer import OptimizerOption

RISEN = 1.02
"""How far above its lowest the held-out loss must stand, twice in a row, to have risen."""
LEARNT = 0.1
"""Share of the first epoch's loss below which songs are learnt by heart."""
BAD = 2
"""Steps in a row without a finite loss that are no accident of one step."""


@dataclass
class Watch:
    """Follows the rows of `metrics.csv`."""

    option: OptimizerOption
    steps_per_epoch: int
    losses: dict[int, float] = field(default_factory=dict)
    """Step -> training loss, where it was finite."""
    held_out: dict[int, float] = field(default_factory=dict)
    """Step -> held-out loss."""
    bad: int = 0
    """Steps in a row without a finite loss, up to now."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The last one."""
    said: set[str] = field(default_factory=set)
    """Names of the rules that have spoken."""

    def go_on_from(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Follow the rows of a run that goes on; what they gave rise to has been said."""
        for row in rows:
            self.after(row)

    def after(self, row: Mapping[str, Any]) -> list[str]:
        """What there is to say after a step, given its row; empty cells are not there."""
        step, loss = int(row["step"]), float(row["loss"])
        self.row, self.bad = row, 0 if math.isfinite(loss) else self.bad + 1
        if math.isfinite(loss):
            self.losses[step] = loss
        if row.get("val_loss"):
            self.held_out[step] = float(row["val_loss"])
        lines = []
        for rule in RULES:
            if rule.__name__ not in self.said and (line := rule(self)):
                self.said.add(rule.__name__)
                lines.append(line)
        return lines

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.row["step"])

    def mean(self, after: int, to: int) -> float:
        """The mean training loss of the steps after `after` up to `to`; not a number where there is none."""
        found = [self.losses[step] for step in range(after + 1, to + 1) if step in self.losses]
        return sum(found) / len(found) if found else math.nan


def overfitting(watch: Watch) -> str | None:
    """The held-out loss rises while the training loss falls: the songs are learnt by heart."""
    if not watch.row.get("val_loss"):
        return None
    best = min(watch.held_out, key=watch.held_out.__getitem__)
    lowest, later = watch.held_out[best], [loss for step, loss in watch.held_out.items() if step > best]
    if len(later) < 2 or min(later[-2:]) < RISEN * lowest:
        return None
    span = watch.step - best
    before, since = watch.mean(best - span, best), watch.mean(best, watch.step)
    if not since < before:
        return None
    return (
        f"overfitting: the held-out loss has risen from {lowest:.4g} at step {best} to {later[-1]:.4g} at step "
        f"{watch.step}, while the training loss fell from {before:.4g} to {since:.4g}; best/ holds step {best}, and "
        "fewer steps, a lower rank or adapter.dropout=0.1 hold it back"
    )


def learnt_by_heart(watch: Watch) -> str | None:
    """A training loss near zero says nothing about other songs, and without held-out ones nothing else does."""
    epoch = watch.steps_per_epoch
    if watch.held_out or watch.step < 2 * epoch or watch.step % epoch:
        return None
    first, last = watch.mean(0, epoch), watch.mean(watch.step - epoch, watch.step)
    if not last < LEARNT * first:
        return None
    return (
        f"data.validation: the training loss is down to {last:.4g} from {first:.4g} and no song is held out: outputs "
        "may copy the songs, and nothing tells; from 5 songs on, data.validation=0.1 holds some out"
    )


def not_finite(watch: Watch) -> str | None:
    """A loss that is not a number asks for smaller steps."""
    if watch.bad < BAD:
        return None
    lr = float(watch.row["lr"])
    return (
        f"optimizer.lr: the loss of {watch.bad} steps in a row, up to step {watch.step}, was not finite at a learning "
        f"rate of {lr:.3g}; {watch.option.lr / 2:.3g} instead of {watch.option.lr:.3g} would be a start"
    )


def estimates(watch: Watch) -> str | None:
    """What the optimizer estimates must be near what it should be."""
    figures = {name: float(value) for name, value in watch.row.items() if name == "d"}
    return next(iter(advice.after(watch.option, watch.step, figures)), None)


RULES: tuple[Callable[[Watch], str | None], ...] = (overfitting, learnt_by_heart, not_finite, estimates)
"""What each step is looked at for."""
