"""Where a run's figures go, besides `metrics.csv` and the plot that every run writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.errors import Refused

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass
class LoggerOption:
    """A tracker."""

    def check(self) -> None:
        """Raise Refused if the tracker cannot be reached as asked."""

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any], start: int) -> "list[Logger]":
        """The Lightning loggers of the run in `folder`, which goes on from step `start`; to be called by the rank that
        writes."""
        raise NotImplementedError

    def close(self, loggers: "Sequence[Logger]", plot: Path, histogram: Sequence[int]) -> None:
        """Hand over the run's plot and its histogram of timesteps, and let go of the loggers."""


@dataclass
class Csv(LoggerOption):
    """Nothing besides `metrics.csv`."""

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any], start: int) -> "list[Logger]":
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
    """auto is online where an API key is set and offline elsewhere; `wandb sync` uploads an offline run later."""

    def check(self) -> None:
        if self.mode is Mode.online:
            from acetrain.tracking.wandb import check

            check(self.mode)

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any], start: int) -> "list[Logger]":
        from acetrain.tracking.wandb import start as begin

        return [begin(folder, name, group, config, self.project, self.mode)]

    def close(self, loggers: "Sequence[Logger]", plot: Path, histogram: Sequence[int]) -> None:
        from lightning.pytorch.loggers import WandbLogger

        from acetrain.tracking.wandb import finish

        for logger in loggers:
            if isinstance(logger, WandbLogger):
                finish(logger, plot, histogram)


@dataclass
class Tensorboard(LoggerOption):
    """TensorBoard, in `tensorboard/` of the run's folder."""

    def check(self) -> None:
        from importlib.util import find_spec

        if find_spec("tensorboard") is None:
            raise Refused("logger: tensorboard is not installed: pip install 'acetrain[tensorboard]'")

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any], start: int) -> "list[Logger]":
        from acetrain.tracking.tensorboard import start as begin

        return [begin(folder, start)]

    def close(self, loggers: "Sequence[Logger]", plot: Path, histogram: Sequence[int]) -> None:
        from lightning.pytorch.loggers import TensorBoardLogger

        from acetrain.tracking.tensorboard import finish

        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                finish(logger, plot, histogram)


@dataclass
class Both(Wandb):
    """Weights & Biases and TensorBoard."""

    def check(self) -> None:
        super().check()
        Tensorboard().check()

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any], start: int) -> "list[Logger]":
        return [
            *super().open(folder, name, group, config, start),
            *Tensorboard().open(folder, name, group, config, start),
        ]

    def close(self, loggers: "Sequence[Logger]", plot: Path, histogram: Sequence[int]) -> None:
        super().close(loggers, plot, histogram)
        Tensorboard().close(loggers, plot, histogram)
