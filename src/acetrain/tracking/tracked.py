"""What trackers are told of a run before its first step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from acetrain import __version__
from acetrain.config import resolved
from acetrain.tracking.provenance import commit
from acetrain.training.run_folder import RunFolder

TAGGED = ("model", "adapter", "targets", "optimizer", "timesteps")
"""Groups whose choice is a tag of the run."""


class Tracks(Protocol):
    """A job that reports to trackers."""

    name: str
    choices: Mapping[str, str]
    sweep: str

    @property
    def folder(self) -> RunFolder: ...


@dataclass(frozen=True)
class Tracked:
    """A run as trackers know it."""

    folder: Path
    name: str
    group: str
    """The sweep that the run belongs to; the run's own name, without its signature, outside of any."""
    job: str
    """What kind of job it is, such as `train`."""
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    start: int = 0
    """The step that the run goes on from."""

    @classmethod
    def of(cls, job: Any, start: int, found: Mapping[str, Any]) -> "Tracked":
        """The run of `job` (see `Tracks`): its resolved configuration with its choices, the code, and what was
        `found` when it was put together."""
        tracks: Tracks = job
        code = {"acetrain": __version__, "commit": commit()}
        config = resolved(job) | {"choices": dict(tracks.choices), "code": code, **found}
        tags = tuple(f"{group}={tracks.choices[group]}" for group in TAGGED if group in tracks.choices)
        kind = type(job).__name__.lower()
        return cls(tracks.folder.path, tracks.folder.called, tracks.sweep or tracks.name, kind, config, tags, start)
