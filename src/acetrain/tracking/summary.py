"""A run in a few figures, from its `metrics.csv` alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from acetrain.tracking.table import read

LOSS = "val_loss"
"""How the columns of held-out losses start: `val_loss`, and `val_loss_ema` where an average is judged as well."""


def summarise(rows: Sequence[Mapping[str, str]], devices: int = 1) -> dict[str, Any]:
    """Figures of a run from the rows of its `metrics.csv`; what cannot be told is left out.

    `best_val_loss`, `last_val_loss` and their steps (of the weights that train, and of their average with `_ema`),
    `final_train_loss`, `mean_songs_per_s` and `mean_frames_per_s` over all steps, `most_memory_mb`, `train_seconds`,
    which validation and checkpoints are no part of, and `device_hours`, that times `devices`. No name is that of a
    column, as W&B keeps the last value of each column in the same place.
    """
    if not rows:
        return {}
    found: dict[str, Any] = {"steps": int(rows[-1]["step"])}
    trained = [float(row["loss"]) for row in rows if row["skipped"] == "0"]
    if trained:
        found["final_train_loss"] = trained[-1]
    for column in (name for name in rows[0] if name == LOSS or name.startswith(f"{LOSS}_")):
        found |= _judged(column, curve(rows, column))
    seconds = math.fsum(_numbers(rows, "seconds"))
    if seconds > 0:
        for unit in ("songs", "frames"):
            found[f"mean_{unit}_per_s"] = math.fsum(_numbers(rows, unit)) / seconds
    memory = max(_numbers(rows, "peak_memory_mb"), default=0.0)
    return found | {"most_memory_mb": memory, "train_seconds": seconds, "device_hours": seconds * devices / 3600}


def summary_of(folder: Path, devices: int = 1) -> dict[str, Any]:
    """The figures of the run in `folder`; none where it has not begun."""
    return summarise(read(folder / "metrics.csv"), devices)


def curve(rows: Iterable[Mapping[str, str]], column: str) -> list[tuple[int, float]]:
    """Step and value of a column, where it has one."""
    return [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]


def _judged(column: str, losses: Sequence[tuple[int, float]]) -> dict[str, Any]:
    finite = [(loss, step) for step, loss in losses if math.isfinite(loss)]
    if not finite:
        return {}
    (best, at), (last, end) = min(finite), (losses[-1][1], losses[-1][0])
    step = column.replace("loss", "step")
    return {f"best_{column}": best, f"best_{step}": at, f"last_{column}": last, f"last_{step}": end}


def _numbers(rows: Iterable[Mapping[str, str]], column: str) -> list[float]:
    return [value for _, value in curve(rows, column)]
