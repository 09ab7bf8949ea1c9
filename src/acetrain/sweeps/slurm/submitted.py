"""Which jobs of SLURM a sweep's runs have been submitted as, and which of those are still in the queue."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acetrain.atomic import write_text
from acetrain.sweeps.slurm import queue
from acetrain.sweeps.slurm.queue import Place

FILE = "slurm.json"
FOLDER = "slurm"
"""Folder of a sweep with what its jobs print."""


@dataclass(frozen=True)
class Queued:
    """A run that is in the queue."""

    job: str
    """Its id, with the element of the array: `12_3`."""
    place: Place


def submitted(sweep: Path) -> dict[str, str]:
    """Run -> the job that it was submitted as last, of the sweep whose record lies in `sweep`."""
    file = sweep / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def note(sweep: Path, jobs: Mapping[str, str]) -> None:
    """Keep run -> job."""
    write_text(sweep / FILE, json.dumps({**submitted(sweep), **jobs}, indent=1))


def log(job: str, rank: int = 0) -> Path:
    """What a process of a job prints, from the sweep's record."""
    return Path(FOLDER) / f"{job}_{rank}_log.out"


def in_queue(sweep: Path) -> dict[str, Queued]:
    """Runs that wait or run in the queue; none where there is no SLURM or its controller does not answer."""
    jobs = submitted(sweep)
    places = queue.places() if jobs and queue.is_there() else None
    if places is None:
        return {}
    return {run: Queued(job, places[job]) for run, job in jobs.items() if job in places and not places[job].ended}
