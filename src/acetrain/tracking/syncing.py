"""Sends offline W&B runs through W&B's own `wandb sync`, which notes beside each file that it was sent."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acetrain.errors import Failed, Refused
from acetrain.tracking.counted import counted
from acetrain.tracking.wandb import ID, has_key, unreachable
from acetrain.training.run_folder import holder

ANSWER = 20.0
"""Seconds in which W&B must answer before anything is sent."""


@dataclass(frozen=True)
class Found:
    """Files of W&B runs: a run has one for each time it was started."""

    waiting: tuple[Path, ...]
    """To be sent, the oldest first, so that a run's parts come in order."""
    busy: tuple[Path, ...]
    """Of runs that another process is training."""
    sent: int


def find(folders: Iterable[Path], online: bool) -> Found:
    """The files below the folders; with `online` those that were being sent while they were written as well."""
    patterns = ("offline-run-*/run-*.wandb", *(("run-*/run-*.wandb",) if online else ()))
    every = {file.resolve(): file for folder in folders for each in patterns for file in folder.rglob(f"wandb/{each}")}
    files = sorted(every.values(), key=lambda file: (file.parent.name.removeprefix("offline-"), str(file)))
    unsent = [file for file in files if not _is_sent(file)]
    busy = [file for file in unsent if (_run_of(file) / ID).is_file() and holder(_run_of(file))]
    waiting = tuple(file for file in unsent if file not in busy)
    return Found(waiting, tuple(busy), len(files) - len(unsent))


def check() -> None:
    """Raise Refused without an API key, Failed where W&B does not answer."""
    if not has_key():
        raise Refused("sync: needs an API key: set WANDB_API_KEY, or `wandb login`; nothing was sent, nothing is lost")
    if reason := unreachable(ANSWER):
        raise Failed(f"sync: W&B cannot be reached ({reason}); nothing was sent, nothing is lost")


def send(files: Sequence[Path], patience: float) -> None:
    """Send the files one after another. Raises Failed at the first that is not taken; those before it are sent."""
    with counted("sending", len(files)) as advance:
        for place, file in enumerate(files):
            reason = _sent(file, patience) and _sent(file, patience)  # W&B's client gives itself 5 s to begin
            if reason:
                left = f"{place} of {len(files)} were sent; the same command sends the rest"
                raise Failed(f"sync: {file} was not sent: {reason}\n{left}")
            advance()


def _sent(file: Path, patience: float) -> str:
    """Send a file; empty, or why it was not sent."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(file.absolute())]
    with tempfile.TemporaryDirectory() as elsewhere:  # wandb writes a log to where it is called
        try:
            done = subprocess.run(
                command,
                cwd=elsewhere,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it took longer than patience={patience:g} seconds"
    if done.returncode == 0 and _is_sent(file):
        return ""
    said = [line.removeprefix("wandb: ").strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    complaints = [line for line in said if "rror" in line and "error logs" not in line]
    return (complaints or said or ["wandb sync said nothing"])[-1]


def _is_sent(file: Path) -> bool:
    return file.with_suffix(".wandb.synced").exists()


def _run_of(file: Path) -> Path:
    """The folder of the run that a file in its `wandb/` is of."""
    return file.parents[2]
