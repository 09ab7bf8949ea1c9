"""What a sweep is made of, kept beside its runs: its jobs, how each is repeated, and how each attempt at it ended."""

import fcntl
import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acetrain.atomic import stored, write_text
from acetrain.errors import Refused, nearest

FOLDER = "sweeps"
"""Folder of the sweeps' records, beside the runs."""
FILE = "sweep.json"
LOCK = ".lock"
"""File that is locked by the process that changes a record."""
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A job of a sweep: a run."""

    run: str
    """Its folder, from the folder that all runs of the sweep lie in."""
    given: Mapping[str, Any]
    """Keys that were given, by the sweep's file or the command line, and the value of each; of a group its option."""
    steps: int
    """Optimizer steps it is to make."""
    frames: int
    """Latent frames it is to see."""
    audio: float
    """Seconds of audio that they are."""


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    started: str
    """ISO 8601, UTC."""
    ended: str = ""
    """Empty while it lasts, and where it was killed without notice."""
    code: int = 0
    """Exit code, once it has ended."""
    message: str = ""
    host: str = ""
    pid: int = 0
    slurm: str = ""
    """SLURM's job, with its array task; empty elsewhere."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Keys that were changed on the way so that it fits into memory."""
    pruned: bool = False
    """Whether a search stopped it as hopeless."""

    def is_of(self, noted: "Attempt") -> bool:
        """Whether this is what has become of a try that was noted when it began."""
        return not noted.ended and (self.started, self.host, self.pid) == (noted.started, noted.host, noted.pid)


@dataclass(frozen=True)
class Content:
    """What `sweep.json` holds."""

    entries: tuple[Entry, ...] = ()
    job: str = "train"
    question: str = ""
    """What the sweep's file says at its beginning."""
    command: tuple[str, ...] = ()
    """Arguments of the last start: what repeats the sweep."""
    config_dirs: tuple[str, ...] = ()
    retry_oom: bool = False


@dataclass(frozen=True)
class Record:
    """The record of one sweep, `<folder of its runs>/sweeps/<name>`."""

    path: Path

    @classmethod
    def of(cls, parent: Path, name: str) -> "Record":
        """The record of the sweep `name` of the runs in `parent`."""
        return cls(parent / FOLDER / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> Path:
        """The folder of the runs."""
        return self.path.parents[1]

    def asking(self, action: str, *more: str) -> str:
        """The command that asks for `action` of this sweep."""
        name = f"name={self.name}" if "=" in self.name or self.name.startswith("-") else self.name
        where = [] if str(self.parent) == "runs" else [f"out_dir={self.parent}"]
        return typed("sweep", action, name, *where, *more)

    def repeating(self, run: str, *more: str) -> str:
        """The command that runs a job by itself."""
        content = self.read()
        folders = [f"--config-dir={folder}" for folder in content.config_dirs]
        return typed(content.job, *folders, f"experiment={self.experiment(run)}", *more)

    def read(self) -> Content:
        """Raises Refused where there is no such sweep or its record is of another version."""
        file = self.path / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise Refused(f"{file}: must have format {FORMAT}, it was written by another version")
            entries = tuple(Entry(**entry) for entry in content.pop("entries"))
            return Content(entries, **{key: _hashable(value) for key, value in content.items()})
        except FileNotFoundError:
            raise Refused(f"name: there is no sweep '{self.name}' in {self.parent}; {self._others()}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{file}: must be the record of a sweep, it cannot be read ({error})") from error

    def entries(self) -> tuple[Entry, ...]:
        """The jobs of every start so far; none before the first."""
        return self.read().entries if (self.path / FILE).exists() else ()

    def add(self, content: Content, configs: Mapping[str, str]) -> Content:
        """Write what is asked for now after the entries of earlier starts, and `configs`, run -> YAML repeating it."""
        asked = {entry.run for entry in content.entries}
        (self.path / "jobs").mkdir(parents=True, exist_ok=True)
        with self._alone():
            earlier = [old for old in self.entries() if old.run not in asked]
            whole = replace(content, entries=(*earlier, *content.entries))
            for run, config in configs.items():
                write_text(self.experiment(run), config)
            self._write(whole)
        return whole

    def forget(self, runs: Sequence[str]) -> None:
        """Drop entries, with all that is kept of them here."""
        with self._alone():
            content = self.read()
            for run in runs:
                for file in (self.experiment(run), self._attempts(run), self.log(run)):
                    file.unlink(missing_ok=True)
            self._write(replace(content, entries=tuple(entry for entry in content.entries if entry.run not in runs)))

    def forget_tries(self, runs: Sequence[str]) -> None:
        """Drop the tries at jobs of which nothing is left."""
        with self._alone():
            for run in runs:
                self._attempts(run).unlink(missing_ok=True)

    def folder(self, run: str) -> Path:
        """The folder of a run."""
        return self.parent / run

    def experiment(self, run: str) -> Path:
        """The file that repeats a job by itself: `acetrain train experiment=FILE`."""
        return self._beside(run, "yaml")

    def log(self, run: str) -> Path:
        """What a job printed that ran in a process of its own."""
        return self._beside(run, "log")

    def attempts(self, run: str) -> list[Attempt]:
        """Every try at a job, the last one last."""
        file = self._attempts(run)
        if not file.exists():
            return []
        try:
            return [Attempt(**attempt) for attempt in json.loads(file.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise Refused(f"{file}: must be the attempts at a job, it cannot be read ({error})") from error

    def begin(self, run: str) -> Attempt:
        """Note that this process tries a job now."""
        task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")
        slurm = f"{job}_{task}" if task else job
        attempt = Attempt(now(), host=socket.gethostname(), pid=os.getpid(), slurm=slurm)
        with self._alone():
            self._note(run, [*self.attempts(run), attempt])
        return attempt

    def end(self, run: str, attempt: Attempt) -> None:
        """Note how the try that `begin` noted ended; others may have begun since, waiting for its run's folder."""
        with self._alone():
            self._note(run, [attempt if attempt.is_of(noted) else noted for noted in self.attempts(run)])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within it no other process changes what lies here."""
        with stored(self.path / LOCK):
            file = (self.path / LOCK).open("a")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _note(self, run: str, attempts: Sequence[Attempt]) -> None:
        write_text(self._attempts(run), json.dumps([asdict(attempt) for attempt in attempts], indent=1))

    def _attempts(self, run: str) -> Path:
        return self._beside(run, "json")

    def _beside(self, run: str, kind: str) -> Path:
        return self.path / "jobs" / f"{run.replace(os.sep, '_')}.{kind}"

    def _write(self, content: Content) -> None:
        write_text(self.path / FILE, json.dumps({"format": FORMAT, **asdict(content)}, indent=1, default=str))

    def _others(self) -> str:
        return nearest(self.name, recorded(self.parent))


def recorded(parent: Path) -> list[str]:
    """Names of the sweeps whose runs lie in `parent`."""
    return sorted(file.parent.name for file in (parent / FOLDER).glob(f"*/{FILE}"))


def varied(entries: Sequence[Entry]) -> list[str]:
    """Keys that tell the entries apart, in the order in which they were given."""
    keys = dict.fromkeys(key for entry in entries for key in entry.given)
    return [key for key in keys if len({json.dumps(entry.given.get(key), default=str) for entry in entries}) > 1]


def typed(*arguments: str) -> str:
    """A command of this program, as a shell reads it."""
    return shlex.join(["acetrain", *arguments])


def now() -> str:
    """The time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
