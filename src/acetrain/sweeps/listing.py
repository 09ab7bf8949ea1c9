"""The results of a sweep for a terminal, and as CSV."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acetrain.atomic import write_text
from acetrain.sweeps.results import Result, Results, Setting
from acetrain.sweeps.state import State
from acetrain.sweeps.table import aligned, shown, written

FILE = "results.csv"
FIGURES = ("best_val_loss", "best_val_step", "last_val_loss", "last_val_step", "final_train_loss")
COSTS = ("train_seconds", "device_hours", "most_memory_mb", "mean_frames_per_s", "parameters")


def lines(results: Results) -> list[str]:
    """The settings, the best first, with the mean over seeds and its 95 % interval; then what is not there yet."""
    keys = results.compared
    head = ["", *keys, results.objective, "±", "runs", "parameters", "seconds", "MiB"]
    rows = [cells(place, setting, keys) for place, setting in enumerate(results.settings, 1)]
    counts = {state: sum(run.state is state for run in results.runs) for state in State}
    said = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    note = "± is half of the 95 % interval of the mean over seeds, by Student's t"
    return [*aligned(head, rows), "", f"{len(results.runs)} runs: {said}", note]


def cells(place: int, setting: Setting, keys: Sequence[str]) -> list[str]:
    """The row of a setting: its place, its values, its loss and interval, its finished runs, and what it costs."""
    finished = [run for run in setting.runs if run.state is State.finished]
    runs = str(len(finished)) if len(finished) == len(setting.runs) else f"{len(finished)} of {len(setting.runs)}"
    return [
        str(place),
        *(shown(setting.values.get(key, "")) for key in keys),
        loss(setting.mean),
        loss(setting.interval, 2),
        runs,
        *(number(_mean(setting, key)) for key in ("parameters", "train_seconds", "most_memory_mb")),
    ]


def _mean(setting: Setting, key: str) -> float:
    found = [run.figures[key] for run in setting.runs if key in run.figures]
    return sum(found) / len(found) if found else math.nan


def loss(value: float, digits: int = 4) -> str:
    """A loss with so many significant digits, zeros among them; `-` for none."""
    return f"{value:#.{digits}g}" if math.isfinite(value) else "-"


def number(value: Any, digits: int = 4) -> str:
    """A figure with so many significant digits, whole numbers whole; `-` for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def write_csv(results: Results) -> Path:
    """Write `results.csv` into the sweep's folder: a row a run, in the order in which the sweep has them."""
    averaged = [name for name in _names(results.runs) if name.endswith("_ema")]
    columns = (*FIGURES, *averaged, *COSTS)
    head = ["run", *results.keys, "state", "step", "steps", *columns, "attempts", "message", "folder", "wandb_id"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for run in results.runs:
        values = [written(run.values[key]) if key in run.values else "" for key in results.keys]
        entry = run.standing
        said = entry.message if run.state is not State.finished else ""
        figures = [run.figures.get(name, "") for name in columns]
        rest = [len(entry.attempts), said, str(run.folder), run.wandb]
        writer.writerow([run.run, *values, run.state.value, entry.step, entry.entry.steps, *figures, *rest])
    path = results.record.path / FILE
    write_text(path, text.getvalue())
    return path


def _names(runs: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.figures))
