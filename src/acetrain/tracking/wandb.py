"""Weights & Biases, without ever asking for anything or waiting for the network."""

import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import WandbLogger
from wandb.errors import AuthenticationError, Error

from acetrain.atomic import write_text
from acetrain.errors import Failed, Refused
from acetrain.tracking.logger import Ended, Mode
from acetrain.tracking.tracked import Tracked

PATIENCE = 30.0
"""Seconds that the start of an online run may take."""
LAST_UPLOAD = 120.0
"""Seconds that its end may take; what is not uploaded by then lies in the run's folder."""
ID = "wandb_id"
"""File in a run's folder with the id of its W&B run."""
KEPT_OUT: Mapping[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "host": "-",
    "save_code": False,
    "silent": True,
    "x_disable_meta": True,
}
"""What W&B would collect of the process and its surroundings, command line, remotes with their tokens and code among
them: a run is its configuration, and that is told."""


class Stepped(WandbLogger):
    """A W&B run whose steps are the optimizer's, so that a run that was continued counts on.

    W&B's own process ends at the SIGTERM that a scheduler sends to all of a job's. The run is then to write its
    checkpoint, not to fail for want of a tracker.
    """

    lost = False
    """Whether that process has ended before the run."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add to the row of `step`, or of the present one."""
        with self.kept():
            self.experiment.log(dict(metrics), step=step)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within it what W&B's process is told is left out, and that said once, where that process has ended."""
        try:
            yield
        except ConnectionError:
            if not self.lost:
                print("W&B's own process has ended; metrics.csv has the figures from here on", flush=True)
            self.lost = True


def has_key() -> bool:
    """Whether W&B finds an API key in the environment or its own files; nothing is asked and no network is used.

    Raises Refused for one that can be none.
    """
    wandb.setup(wandb.Settings(silent=True))  # or it asks the server who the key belongs to, so as to print it
    try:
        return wandb.login(prompt=False, verify=False)
    except AuthenticationError as error:
        raise Refused(f"logger: {error}") from error


def check(mode: Mode) -> None:
    """Refuse to be online without an API key."""
    if mode is Mode.online and not has_key():
        raise Refused("logger.mode: online needs an API key: set WANDB_API_KEY, or use logger.mode=offline")


def start(run: Tracked, project: str, mode: Mode) -> Stepped:
    """The W&B run of a run; started again in the same folder it continues the same one.

    Where W&B cannot be reached, or the key can be none, `auto` goes on offline and says so; `online` raises `Failed`.
    """
    begin = partial(
        wandb.init,
        project=project,
        name=run.name,
        group=run.group,
        job_type=run.job,
        tags=run.tags,
        id=identified(run.folder),
        resume="allow",
        dir=run.folder.absolute(),
        config=dict(run.config),
        reinit="create_new",  # or the second of two runs side by side is the first once more
        settings=wandb.Settings(init_timeout=PATIENCE, finish_timeout=LAST_UPLOAD, **KEPT_OUT),
    )
    try:
        online = mode is Mode.online or (mode is Mode.auto and _can_be_online())
        begun = begin(mode="online" if online else "offline")
    except Error as error:
        reason = str(error).strip().splitlines()[0]
        if mode is Mode.online:
            raise Failed(f"logger.mode: online, and W&B cannot be reached ({reason})") from error
        _say_offline(reason)
        wandb.teardown()  # or the id counts as in use
        begun = begin(mode="offline")
    return Stepped(experiment=begun, save_dir=run.folder)


def _can_be_online() -> bool:
    """Whether there are a key and a server, found out before a run is begun: one that failed stands in the way."""
    try:
        if not has_key():
            return False
        reason = unreachable(PATIENCE)
    except Refused as refusal:
        reason = str(refusal)
    if reason:
        _say_offline(reason)
    return not reason


def _say_offline(reason: str) -> None:
    print(f"W&B cannot be reached ({reason}); the run is kept offline, `acetrain sync` sends it", file=sys.stderr)


def unreachable(patience: float) -> str:
    """Why W&B's server does not answer in so many seconds; empty where it does. No key is sent."""
    server = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(server, timeout=patience).close()
    except urllib.error.HTTPError:
        return ""  # it is there
    except OSError as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else f"{server}: {reason}"  # W&B's client has its own authorities
    return ""


def identified(folder: Path) -> str:
    """The id of the W&B run of the run in `folder`: the one it has had, else a new one, which is kept there.

    A run that `wandb agent` started has the id that its sweep's controller gave it, or the controller would not hear
    of it.
    """
    file = folder / ID
    given = os.environ.get("WANDB_RUN_ID", "") if os.environ.get("WANDB_SWEEP_ID") else ""
    kept = file.read_text() if file.exists() else ""
    wanted = given or kept or secrets.token_hex(4)
    if wanted != kept:
        write_text(file, wanted)
    return wanted


def finish(logger: Stepped, ended: Ended) -> None:
    """Add what describes the whole run, and close it."""
    edges = np.linspace(0, 1, len(ended.histogram) + 1)
    timesteps = wandb.Histogram(np_histogram=(np.array(ended.histogram), edges))
    logger.log_metrics({"timesteps": timesteps, "plot": wandb.Image(str(ended.plot))}, ended.step)
    if not logger.lost:
        with logger.kept():
            logger.experiment.summary.update(dict(ended.summary))
            logger.experiment.finish()
