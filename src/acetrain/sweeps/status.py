"""Where a sweep stands, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acetrain.sweeps import cost, table
from acetrain.sweeps.record import Content, Record, typed
from acetrain.sweeps.state import Standing, State, standings
from acetrain.training.run_folder import holder


def every(parent: Path, names: Sequence[str]) -> list[str]:
    """A line for each sweep whose runs lie in `parent`."""
    if not names:
        return [f"no sweep has its runs in {parent}; out_dir= looks elsewhere"]
    records = [Record.of(parent, name) for name in names]
    rows = [[record.name, counted(standings(record, record.read().entries))] for record in records]
    return table.aligned(["sweep", "jobs"], rows)


def page(record: Record, content: Content, ended: Sequence[Standing]) -> list[str]:
    """The table of a sweep's jobs, what runs where, what failed and how to go on."""
    lines = [f"sweep: {record.path}", *content.question.splitlines()[:1], *table.jobs(ended), counted(ended)]
    for number, one in enumerate(ended, 1):
        lines += [f"job {number}: {line}" for line in _particulars(record, one)]
    left = [one.entry for one in ended if not one.state.settled]
    if left:
        lines += [cost.told(record, content.entries, left), f"to go on: {typed(*content.command)}"]
        lines.append(f"one of them by itself: {record.asking('run', 'job=NUMBER')}")
    return lines


def counted(ended: Sequence[Standing]) -> str:
    """`24 jobs: 20 finished, 3 running, 1 missing`."""
    counts = Counter(one.state for one in ended)
    return f"{len(ended)} jobs: " + ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])


def document(record: Record, ended: Sequence[Standing]) -> dict[str, Any]:
    """The same as plain values."""
    jobs = [
        {
            "run": one.entry.run,
            "given": dict(one.entry.given),
            "state": one.state.value,
            "step": one.step,
            "steps": one.entry.steps,
            "slurm": one.slurm.job if one.slurm else "",
            "attempts": [asdict(attempt) for attempt in one.attempts],
        }
        for one in ended
    ]
    return {"sweep": record.name, "out_dir": str(record.parent), "jobs": jobs}


def _particulars(record: Record, one: Standing) -> list[str]:
    lines = []
    if one.state is State.running:
        lines.append(f"running in {holder(record.folder(one.entry.run)) or 'a process on another machine'}")
    if one.slurm is not None:
        lines.append(f"job {one.slurm.job} of SLURM: {one.slurm.place.state} {one.slurm.place.reason}".rstrip())
    if one.state is State.failed:
        lines += one.message.splitlines()[:1]
    if one.changes:
        lines.append("changed to fit: " + " ".join(f"{key}={value}" for key, value in one.changes.items()))
    return lines
