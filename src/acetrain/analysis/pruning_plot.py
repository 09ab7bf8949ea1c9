"""What is kept at which size and at which price, as a picture."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.analysis import ranks
from acetrain.analysis.pruning import METHODS, Evidence, Pruned
from acetrain.atomic import replacing

STYLES = {"weights": ("C0", "o", "-"), "activations": ("C1", "s", "--"), "loss": ("C2", "^", "-.")}
"""Method -> colour, marker and line."""
SONGS = {"held_out": "held-out songs", "training": "training songs (none are held out)"}


def draw(found: Pruned, file: Path) -> None:
    """Write `pareto.png`: loss against parameters where it was measured, else what is left out against parameters."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    evidence = found.evidence
    if evidence is not None and evidence.curve:
        _losses(left, found, evidence)
        _predictions(right, evidence)
    else:
        _retained(left, found)
        _spectra(right, found)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _losses(axes: Axes, found: Pruned, evidence: Evidence) -> None:
    judged = evidence.judged[evidence.judged_on]
    for method in METHODS:
        points = [point for point in evidence.curve if point.method == method]
        colour, marker, line = STYLES[method]
        x, y = [point.parameters for point in points], [judged.whole + point.change for point in points]
        axes.plot(x, y, color=colour, marker=marker, linestyle=line, label=method)
    axes.axhline(judged.whole, color="0.3", linewidth=1, label="whole adapter")
    if judged.base < judged.whole + 3 * max(point.change for point in evidence.curve):
        axes.axhline(judged.base, color="0.3", linewidth=1, linestyle=":", label="no adapter")
    axes.plot(found.parameters, judged.truncated, "kX", markersize=11, label=f"this adapter, by {found.method}")
    how = "ranks shared out" if found.budget.shared else "one rank for all"
    axes.set(xscale="log", xlabel="parameters", ylabel=f"loss of {judged.songs} {SONGS[evidence.judged_on]}")
    axes.set_title(f"size and loss, {how}")
    axes.grid(alpha=0.3)
    axes.legend()


def _predictions(axes: Axes, evidence: Evidence) -> None:
    both = [(point.predicted, point.change) for point in evidence.curve]
    largest = max((abs(value) for pair in both for value in pair), default=1.0) or 1.0
    axes.plot([largest * 1e-5, largest * 1.5], [largest * 1e-5, largest * 1.5], color="0.6", label="as predicted")
    for method in METHODS:
        colour, marker, _ = STYLES[method]
        points = [point for point in evidence.curve if point.method == method and point.predicted and point.change]
        x, y = [p.predicted for p in points], [p.change for p in points]
        axes.plot(x, y, color=colour, marker=marker, linestyle="", label=method)
    axes.set_xscale("symlog", linthresh=largest * 1e-3)
    axes.set_yscale("symlog", linthresh=largest * 1e-3)
    axes.set(xlabel="predicted change of loss", ylabel="measured change of loss", title="prediction, every size")
    axes.grid(alpha=0.3)
    axes.legend()


def _retained(axes: Axes, found: Pruned) -> None:
    options = found.candidates
    total = math.fsum(gain for one in options.values() for gain in one.gains)
    for label, choices, style in (
        ("one rank for all", [ranks.common(options, rank) for rank in _few(ranks.largest(options))], "C0o-"),
        ("ranks shared out", _shared(options), "C1s--"),
    ):
        kept = [sum(math.fsum(one.gains[: taken[name]]) for name, one in options.items()) / total for taken in choices]
        axes.plot([ranks.cost(options, taken) for taken in choices], [1 - share for share in kept], style, label=label)
    axes.plot(found.parameters, max(1 - found.retained, 0), "kX", markersize=11, label="this adapter")
    axes.set(xscale="log", xlabel="parameters", ylabel="share of squared singular values left out")
    axes.set(title=f"what a smaller adapter leaves out, by {found.method}", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()


def _few(largest: int) -> list[int]:
    """Up to a dozen ranks, evenly spread over their logarithm."""
    return sorted({round(rank) for rank in np.geomspace(1, largest, 12)})


def _shared(options: ranks.Candidates) -> list[dict[str, int]]:
    order = ranks.path(options)
    return [ranks.along(options, order, steps) for steps in sorted({round(n) for n in np.geomspace(1, len(order), 24)})]


def _spectra(axes: Axes, found: Pruned) -> None:
    whole = [(one.values / one.values[0]).numpy() for one in found.truncations.values() if len(one.values)]
    longest = max(map(len, whole))
    padded = np.zeros((len(whole), longest))
    for row, values in zip(padded, whole, strict=True):
        row[: len(values)] = values
    index = np.arange(1, longest + 1)
    low, middle, high = np.percentile(padded, [10, 50, 90], axis=0)
    axes.fill_between(index, low, high, color="C0", alpha=0.25, label="10 to 90 % of the modules")
    axes.plot(index, middle, "C0", label="middle module")
    axes.set(xlabel="rank", ylabel="singular value over the module's largest", title="spectra", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
