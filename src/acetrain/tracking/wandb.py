"""Weights & Biases, without ever asking for anything or waiting for the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from acetrain.tracking.logger import Mode


def logger(folder: Path, name: str, group: str, config: Mapping[str, Any], project: str, mode: Mode) -> Logger:
    """The W&B logger of the run in `folder`; started again in the same folder it continues the same W&B run."""
    online = mode is Mode.online or (mode is Mode.auto and bool(wandb.api.api_key))
    wandb.setup(wandb.Settings(silent=True, console="off"))
    return WandbLogger(
        name=name,
        id=folder.name,
        group=group,
        project=project,
        save_dir=folder,
        offline=not online,
        resume="allow",
        config=dict(config),
    )
