"""What is kept at which size, as a picture."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.analysis import ranks
from acetrain.analysis.pruning import Pruned
from acetrain.atomic import replacing


def draw(found: Pruned, file: Path) -> None:
    """Write `pareto.png`: what is retained against parameters, and the spectra behind it."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _retained(left, found)
    _spectra(right, found)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


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
    whole = [np.array(one.values) / one.values[0].item() for one in found.truncations.values() if len(one.values)]
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
