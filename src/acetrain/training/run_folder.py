"""A run's folder: who it belongs to, whether it may be used, and where it stands."""

import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from acetrain.atomic import PARTIAL, clear, write_text
from acetrain.errors import Refused
from acetrain.writable import writable_folder

IDENTITY = "identity.json"
LOCK = ".lock"
"""File that the process that trains in a folder holds locked, with who it is."""
CHECKPOINT = re.compile(r"step-(\d+)\.ckpt")
UNSIGNED = (
    "name",
    "out_dir",
    "cache",
    "resume",
    "max_steps",
    "max_epochs",
    "logger",
    "samples",
    "model",
    "targets.report",
    "targets.force",
    "data.max_frames",
    "data.budgets",
    "data.workers",
    "trainer",
)
"""Keys, with all below them, that change where, how fast or how long a run trains, not what a step does."""
SIGNED = ("trainer.clip", "trainer.max_bad_steps", "trainer.validate_every", "trainer.validation_quantiles")
"""Keys below those that do."""


POLL = 1.0
"""Seconds between looks at whether another process has let go of a folder."""


def identity_of(config: Mapping[str, Any], kinds: Mapping[str, str], data: str, weights: str) -> dict[str, Any]:
    """What a run is: every setting that changes its result, each option's kind, the data's and the weights' digest."""
    covered = {key: value for key, value in flat(config).items() if key in SIGNED or not _below(key, UNSIGNED)}
    return {**covered, **kinds, "cache": data, "model": weights}


def signature_of(identity: Mapping[str, Any]) -> str:
    """Eight hex digits of the identity's SHA-256."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of dotted keys."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


@dataclass(frozen=True)
class RunFolder:
    """The folder of the run with this identity."""

    path: Path
    identity: Mapping[str, Any]
    called: str = ""
    """The run's name and signature: its folder where none is given, and its name at trackers."""

    @classmethod
    def named(cls, out_dir: str, name: str, identity: Mapping[str, Any]) -> "RunFolder":
        """The folder `out_dir`, or where it is empty one below `runs`, of the run of this name and identity."""
        called = f"{name}-{signature_of(identity)}"
        return cls(Path(out_dir or Path("runs") / called), identity, called)

    def check(self, may_resume: bool) -> None:
        """Raise Refused if the folder holds something else, or this run where it may not be resumed."""
        writable_folder("out_dir", self.path)
        if not self.path.exists():
            return
        if not any(path for path in self.path.iterdir() if not path.name.startswith((PARTIAL, LOCK))):
            return
        stored = self.stored()
        if stored is None:
            raise Refused(f"out_dir: must be new, empty or an earlier run of the same settings, got {self.path}")
        if stored != dict(self.identity):
            raise Refused(self._difference(stored))
        if not may_resume:
            raise Refused(f"resume: never, but {self.path} holds this run already; use resume=auto or another out_dir")

    def stored(self) -> dict[str, Any] | None:
        """The identity of the run the folder holds, None where it holds none."""
        file = self.path / IDENTITY
        if not file.is_file():
            return None
        try:
            return json.loads(file.read_text())
        except ValueError as error:
            raise Refused(f"out_dir: {file} cannot be read as JSON ({error})") from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it the folder, which is made if need be, is this process's; the system ends that with the process.

        Waits, saying so, for another that holds it. On a file system without `flock` it cannot keep others out.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("a+") as file:
            told = False
            while not _locked(file):
                if not told and holder(self.path):
                    print(f"waiting: {self.path} is being trained by {holder(self.path)}", flush=True)
                    told = True
                time.sleep(POLL)
            file.truncate(0)
            file.write(_self())
            file.flush()
            yield

    def claim(self, config: str) -> None:
        """Create the folder and write into it whose it is and the configuration that repeats it."""
        self.path.mkdir(parents=True, exist_ok=True)
        clear(self.path)
        write_text(self.path / IDENTITY, json.dumps(self.identity, indent=2, sort_keys=True))
        write_text(self.path / "config.yaml", config)

    def _difference(self, stored: Mapping[str, Any]) -> str:
        keys = sorted(key for key in stored.keys() | self.identity.keys() if stored.get(key) != self.identity.get(key))
        changes = [
            f"{key} ({_shown(stored.get(key))} there, {_shown(self.identity.get(key))} here)" for key in keys[:3]
        ]
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        return (
            f"out_dir: {self.path} holds a run with other settings: {', '.join(changes)}{more}; choose another out_dir"
        )


def _locked(file: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    """Lock a file that nobody else has locked; whether that worked."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _self() -> str:
    job = os.environ.get("SLURM_JOB_ID", "")
    return f"process {os.getpid()} of {socket.gethostname()}" + (f", SLURM job {job}" if job else "")


def holder(folder: Path) -> str:
    """The process that trains in `folder` now; empty where none does."""
    try:
        with (folder / LOCK).open("r") as file:
            if not _locked(file, fcntl.LOCK_SH):
                return file.read() or "a process that has just started"
    except FileNotFoundError:
        pass
    return ""


def written(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*.ckpt") if CHECKPOINT.fullmatch(path.name))


def step_of(path: Path) -> int:
    """The step a checkpoint was written after, from its name."""
    match = CHECKPOINT.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is not the name of a checkpoint")
    return int(match[1])


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in `folder`; 0 where there is none."""
    return max(map(step_of, written(folder)), default=0)


def _shown(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
