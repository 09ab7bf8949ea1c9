"""What the jobs of a sweep take, estimated before they run."""

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from acetrain.sweeps.record import Entry, Record
from acetrain.tracking.table import read

if TYPE_CHECKING:
    from acetrain.jobs.train import Train


def extent(run: "Train") -> tuple[int, float]:
    """Latent frames that a training is to see, and seconds of audio: what its visits take on average, times them."""
    taken = [(run.data.frames(song), song.seconds / song.frames) for song in run.split[0]]
    visits, epochs = run.plan.visits_per_epoch, run.total_steps / run.plan.steps_per_epoch
    frames = sum(one * count for (one, _), count in zip(taken, visits, strict=True))
    seconds = sum(one * each * count for (one, each), count in zip(taken, visits, strict=True))
    return round(epochs * frames), epochs * seconds


def seconds_per_frame(record: Record, entries: Sequence[Entry]) -> float | None:
    """The median over the runs that have made steps here before; None where none has."""
    found = [one for entry in entries if (one := _measured(record, entry)) is not None]
    return statistics.median(found) if found else None


def _measured(record: Record, entry: Entry) -> float | None:
    rows = read(record.folder(entry.run) / "metrics.csv")
    seen = sum(float(row["frames"]) for row in rows)
    return sum(float(row["seconds"]) for row in rows) / seen if seen else None


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min`, `41 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def told(record: Record, entries: Sequence[Entry], left: Iterable[Entry]) -> str:
    """What the jobs that are left take: steps, audio, and time where runs of this sweep have been timed before."""
    todo = list(left)
    audio = duration(sum(entry.audio for entry in todo))
    steps = sum(entry.steps for entry in todo)
    head = f"{len(todo)} of {len(entries)} jobs to run: up to {steps:,} steps over {audio} of audio"
    pace = seconds_per_frame(record, record.entries())
    if pace is None:
        return f"{head}; how long that takes is known once a job has run"
    return (
        f"{head}, about {duration(pace * sum(entry.frames for entry in todo))} at the pace of earlier runs, one by one"
    )
