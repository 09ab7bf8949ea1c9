"""Weights & Biases, without ever asking for anything or waiting for the network."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import WandbLogger

from acetrain.atomic import write_text
from acetrain.errors import Refused
from acetrain.tracking.logger import Mode

_PATIENCE = 30.0
"""Seconds that a start of an online run may take; it fails then, and says so."""
ID = "wandb_id"
"""File in a run's folder with the id of its W&B run."""


def has_key() -> bool:
    """Whether W&B finds an API key in the environment or its own files; nothing is asked and no network is used."""
    return wandb.login(prompt=False, verify=False)


def check(mode: Mode) -> None:
    """Refuse to be online without an API key."""
    if mode is Mode.online and not has_key():
        raise Refused("logger.mode: online needs an API key: set WANDB_API_KEY, or use logger.mode=offline")


def start(folder: Path, name: str, group: str, config: Mapping[str, Any], project: str, mode: Mode) -> WandbLogger:
    """The W&B run of the run in `folder`; started again in the same folder it continues the same one."""
    file = folder / ID
    if not file.exists():
        write_text(file, secrets.token_hex(4))
    online = mode is Mode.online or (mode is Mode.auto and has_key())
    run = wandb.init(
        project=project,
        name=name,
        group=group,
        id=file.read_text(),
        resume="allow",
        dir=folder,
        config=dict(config),
        mode="online" if online else "offline",
        settings=wandb.Settings(silent=True, console="off", init_timeout=_PATIENCE),
    )
    return WandbLogger(experiment=run, save_dir=folder)


def finish(logger: WandbLogger, plot: Path, histogram: Sequence[int]) -> None:
    """Add what describes the whole run, and close it."""
    edges = np.linspace(0, 1, len(histogram) + 1)
    timesteps = wandb.Histogram(np_histogram=(np.array(histogram), edges))
    logger.experiment.log({"timesteps": timesteps, "plot": wandb.Image(str(plot))})
    logger.experiment.finish()
