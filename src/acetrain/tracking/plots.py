"""What a run looked like, as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.atomic import replacing
from acetrain.tracking.table import read

AVERAGED = "loss_ema"
"""Column of `validation.csv` with the losses of averaged weights, where they are kept."""


def plot_run(folder: Path, histogram: Sequence[int]) -> Path:
    """Write `loss.png` from the tables in `folder`: training loss, held-out loss by timestep, the timesteps drawn."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    training, held_out, times = figure.subplots(1, 3)
    _training(training, folder)
    _held_out(held_out, folder)
    _times(times, histogram)
    path = folder / "loss.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path


def _training(axes: Axes, folder: Path) -> None:
    rows = [(int(row["step"]), float(row["loss"])) for row in read(folder / "metrics.csv") if row["skipped"] == "0"]
    axes.set(title="training loss", xlabel="optimizer step", ylabel="loss (mean of songs)")
    if rows:
        steps, losses = np.array(rows).T
        axes.plot(steps, losses, color="0.75", linewidth=0.8, label="each step")
        window = max(1, len(losses) // 20)
        smooth = np.convolve(losses, np.ones(window) / window, "valid")
        axes.plot(steps[window - 1 :], smooth, color="C0", label=f"mean of {window} steps")
        axes.legend()


def _held_out(axes: Axes, folder: Path) -> None:
    axes.set(
        title="held-out loss by timestep, relative to the start",
        xlabel="optimizer step",
        ylabel="loss / loss at step 0",
    )
    rows = read(folder / "validation.csv")
    if not rows:
        axes.text(0.5, 0.5, "no songs held out", ha="center", va="center", transform=axes.transAxes)
        return
    steps = sorted({int(row["step"]) for row in rows})
    times = sorted({float(row["t"]) for row in rows})
    curves = _curves(rows, steps, times, "loss")
    for t, curve in zip(times, curves, strict=True):
        axes.plot(steps, curve / curve[0], linewidth=0.8, alpha=0.7, label=f"t = {t:.2f}")
    mean = curves.mean(axis=0)
    axes.plot(steps, mean / mean[0], color="black", linewidth=2, label="mean")
    if AVERAGED in rows[0]:
        averaged = _curves(rows, steps, times, AVERAGED).mean(axis=0)
        axes.plot(steps, averaged / mean[0], color="black", linewidth=2, linestyle="--", label="mean, averaged weights")
    axes.legend(fontsize="x-small", ncols=2)


def _curves(
    rows: Sequence[dict[str, str]], steps: Sequence[int], times: Sequence[float], column: str
) -> Float[np.ndarray, "time step"]:
    """The mean over songs of a column of `validation.csv`."""
    found: dict[tuple[float, int], list[float]] = {}
    for row in rows:
        found.setdefault((float(row["t"]), int(row["step"])), []).append(float(row[column]))
    return np.array([[np.mean(found[t, step]) for step in steps] for t in times])


def _times(axes: Axes, histogram: Sequence[int]) -> None:
    edges = np.linspace(0, 1, len(histogram) + 1)
    axes.stairs(histogram, edges, fill=True, color="C1")
    axes.set(title="timesteps drawn", xlabel="t (1 is noise)", ylabel="songs", xlim=(0, 1))
