"""Sweeps whose runs never ran: the files that runs would have left, with losses that follow a known rule."""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from acetrain.sweeps.record import Content, Entry, Record
from acetrain.tracking.table import Table

STEPS = 60
ENDED = "2026-01-01T00:01:00+00:00"
LossOf = Callable[[Mapping[str, Any]], float]
"""The loss that a run with these values ends at."""


def grid(axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def sweep(parent: Path, name: str, settings: list[dict[str, Any]], loss_of: LossOf, question: str = "") -> Record:
    """The record of a sweep with a finished run for each of `settings`."""
    record = Record.of(parent, name)
    entries = tuple(Entry(f"{name}-{place:08x}", given, STEPS, 1000, 40.0) for place, given in enumerate(settings))
    content = Content(entries, question=question, command=("train", f"sweep={name}"))
    record.add(content, {entry.run: "name: again\n" for entry in entries})
    for entry in entries:
        finish(record, entry, loss_of(entry.given))
    return record


def finish(record: Record, entry: Entry, loss: float, steps: int = STEPS) -> None:
    """The folder of a run that has made `steps` steps on its way to `loss`."""
    folder = record.folder(entry.run)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(len(json.dumps(dict(entry.given))) + 7 * int(entry.given.get("seed", 0)))
    columns = ["epoch", "loss", "val_loss", "skipped", "songs", "frames", "peak_memory_mb", "seconds"]
    metrics = Table(folder / "metrics.csv", columns, None)
    held_out = Table(folder / "validation.csv", ["song", "quantile", "t", "loss"], None)
    for step in range(steps + 1):
        now = loss * (1 + math.exp(-6 * step / STEPS))
        row = {"step": step, "epoch": 0, "loss": now * (1 + 0.1 * float(drawn.standard_normal())), "skipped": 0}
        if step % 10 == 0:
            held_out.append([{"step": step, "song": "a", "quantile": 0, "t": 0.5, "loss": now}])
            row["val_loss"] = now
        if step:
            metrics.append([row | {"songs": 4, "frames": 800, "peak_memory_mb": 512.0, "seconds": 0.5}])
    (folder / f"step-{steps:08d}.ckpt").touch()
    (folder / "best").mkdir(exist_ok=True)
    (folder / "modules.csv").write_text(
        f"module,parameters\na,{1024 * int(entry.given.get('adapter.rank', 1))}\nb,10\n"
    )


def fail(record: Record, place: int, steps: int, message: str) -> None:
    """Make a run one that failed after `steps` steps."""
    _stop(record, place, steps, 1.0, code=1, message=message)


def prune(record: Record, place: int, steps: int, loss: float) -> None:
    """Make a run one that a search ended after `steps` steps, on its way to `loss`."""
    _stop(record, place, steps, loss, pruned=True)


def _stop(record: Record, place: int, steps: int, loss: float, **how: Any) -> None:
    entry = record.read().entries[place]
    for file in record.folder(entry.run).glob("step-*.ckpt"):
        file.unlink()
    finish(record, entry, loss, steps)
    record.end(entry.run, replace(record.begin(entry.run), ended=ENDED, **how))
