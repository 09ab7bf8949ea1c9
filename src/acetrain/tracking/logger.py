"""Where a run's figures go, besides `metrics.csv` and the plot that every run writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.errors import Refused

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from acetrain.tracking.tracked import Tracked


@dataclass(frozen=True)
class Ended:
    """What describes a whole run, at its end or where it was stopped."""

    plot: Path
    histogram: Sequence[int]
    """Timesteps drawn, in bins of equal width over [0, 1]."""
    step: int
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class LoggerOption:
    """A tracker."""

    def check(self) -> None:
        """Raise Refused if the tracker cannot be reached as asked."""

    def open(self, run: "Tracked") -> "list[Logger]":
        """The Lightning loggers of the run; to be called by the rank that writes."""
        raise NotImplementedError

    def side_by_side(self) -> "LoggerOption | None":
        """The tracker of a run that has others beside it in its process; None where it must have none."""
        return self

    def close(self, loggers: "Sequence[Logger]", ended: Ended) -> None:
        """Hand over what describes the whole run, and let go of the loggers."""


@dataclass
class Csv(LoggerOption):
    """Nothing besides `metrics.csv`."""

    def open(self, run: "Tracked") -> "list[Logger]":
        return []


class Mode(Enum):
    """Whether W&B is reached over the network."""

    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass
class Wandb(LoggerOption):
    """Weights & Biases."""

    project: str
    """W&B project."""
    mode: Mode
    """auto is online where an API key is set and offline elsewhere; `acetrain sync` sends what was offline."""

    def check(self) -> None:
        if self.mode is Mode.online:
            from acetrain.tracking.wandb import check

            check(self.mode)

    def open(self, run: "Tracked") -> "list[Logger]":
        from acetrain.tracking.wandb import start as begin

        return [begin(run, self.project, self.mode)]

    def side_by_side(self) -> "Wandb | None":
        """Offline: where a server cannot be reached, W&B lets go of every run of the process to begin one anew."""
        return None if self.mode is Mode.online else replace(self, mode=Mode.offline)

    def close(self, loggers: "Sequence[Logger]", ended: Ended) -> None:
        from acetrain.tracking.wandb import Stepped, finish

        for logger in loggers:
            if isinstance(logger, Stepped):
                finish(logger, ended)


@dataclass
class Tensorboard(LoggerOption):
    """TensorBoard, in `tensorboard/` of the run's folder."""

    def check(self) -> None:
        from importlib.util import find_spec

        if find_spec("tensorboard") is None:
            raise Refused("logger: tensorboard is not installed: pip install 'acetrain[tensorboard]'")

    def open(self, run: "Tracked") -> "list[Logger]":
        from acetrain.tracking.tensorboard import start as begin

        return [begin(run.folder, run.start)]

    def close(self, loggers: "Sequence[Logger]", ended: Ended) -> None:
        from lightning.pytorch.loggers import TensorBoardLogger

        from acetrain.tracking.tensorboard import finish

        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                finish(logger, ended)


@dataclass
class Both(Wandb):
    """Weights & Biases and TensorBoard."""

    def check(self) -> None:
        super().check()
        Tensorboard().check()

    def open(self, run: "Tracked") -> "list[Logger]":
        return [*super().open(run), *Tensorboard().open(run)]

    def close(self, loggers: "Sequence[Logger]", ended: Ended) -> None:
        super().close(loggers, ended)
        Tensorboard().close(loggers, ended)
