"""Weights & Biases, without ever asking for anything or waiting for the network."""

import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import WandbLogger
from wandb.errors import Error

from acetrain.atomic import write_text
from acetrain.errors import Failed, Refused
from acetrain.tracking.logger import Mode

PATIENCE = 30.0
"""Seconds that the start of an online run may take."""
LAST_UPLOAD = 120.0
"""Seconds that its end may take; what is not uploaded by then lies in the run's folder."""
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
    """The W&B run of the run in `folder`; started again in the same folder it continues the same one.

    Where W&B cannot be reached `auto` goes on offline and says so; `online` raises `Failed`.
    """
    file = folder / ID
    if not file.exists():
        write_text(file, secrets.token_hex(4))
    begin = partial(
        wandb.init,
        project=project,
        name=name,
        group=group,
        id=file.read_text(),
        resume="allow",
        dir=folder,
        config=dict(config),
        settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE, finish_timeout=LAST_UPLOAD),
    )
    if mode is Mode.offline or (mode is Mode.auto and not has_key()):
        return WandbLogger(experiment=begin(mode="offline"), save_dir=folder)
    try:
        run = begin(mode="online")
    except Error as error:
        reason = str(error).strip().splitlines()[0]
        if mode is Mode.online:
            raise Failed(f"logger.mode: online, and W&B cannot be reached ({reason})") from error
        print(f"W&B cannot be reached ({reason}); the run is kept offline, `wandb sync` uploads it", file=sys.stderr)
        wandb.teardown()  # or the id counts as in use
        run = begin(mode="offline")
    return WandbLogger(experiment=run, save_dir=folder)


def finish(logger: WandbLogger, plot: Path, histogram: Sequence[int]) -> None:
    """Add what describes the whole run, and close it."""
    edges = np.linspace(0, 1, len(histogram) + 1)
    timesteps = wandb.Histogram(np_histogram=(np.array(histogram), edges))
    logger.experiment.log({"timesteps": timesteps, "plot": wandb.Image(str(plot))})
    logger.experiment.finish()
