"""Where a run's figures go, besides `metrics.csv` and the plot that every run writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass
class LoggerOption:
    """A tracker."""

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> "list[Logger]":
        """The Lightning loggers of the run in `folder`."""
        raise NotImplementedError


@dataclass
class Csv(LoggerOption):
    """Nothing besides `metrics.csv`."""

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> "list[Logger]":
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

    def open(self, folder: Path, name: str, group: str, config: Mapping[str, Any]) -> "list[Logger]":
        from acetrain.tracking.wandb import logger

        return [logger(folder, name, group, config, self.project, self.mode)]
