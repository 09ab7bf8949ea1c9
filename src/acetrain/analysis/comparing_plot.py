"""Two adapters' likeness as a heat map: kinds of modules down, blocks across."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.adapters.targets import block_of
from acetrain.analysis.comparing import Comparison, Likeness
from acetrain.analysis.comparing_report import kind_of
from acetrain.atomic import replacing

NO_BLOCK = "-"
"""Label of the column of modules that lie in no block."""


def draw(found: Comparison, file: Path) -> None:
    """Write the cosines, the overlaps of outputs and of inputs, and the ratio of norms, of every module."""
    names = list(found.modules)
    kinds = list(dict.fromkeys(map(kind_of, names)))
    blocks = sorted({block for name in names if (block := block_of(name)) is not None})
    columns = [str(block) for block in blocks] + [NO_BLOCK] * any(block_of(name) is None for name in names)
    size = (3.4 + 2 * max(2.4, 0.24 * len(columns)), 2.4 + 2 * 0.26 * len(kinds))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    shown = (
        ("cosine of the updates", "RdBu", -1.0, 1.0, lambda one: one.cosine),
        ("log2 of norms, second over first", "PuOr", None, None, _ratio),
        ("outputs shared", "viridis", 0.0, 1.0, lambda one: one.outputs),
        ("inputs shared", "viridis", 0.0, 1.0, lambda one: one.inputs),
    )
    for axes, (title, colours, low, high, figure_of) in zip(panels.flat, shown, strict=True):
        cells = np.full((len(kinds), len(columns)), np.nan)
        for name, one in found.modules.items():
            block = block_of(name)
            cells[kinds.index(kind_of(name)), len(blocks) if block is None else blocks.index(block)] = figure_of(one)
        widest = max(float(np.nanmax(np.abs(cells), initial=0.0)), 1.0)
        limits = {"vmin": -widest if low is None else low, "vmax": widest if high is None else high}
        figure.colorbar(axes.imshow(cells, cmap=colours, aspect="auto", **limits), ax=axes)
        _label(axes, title, kinds, columns)
    for axes in panels[1]:
        axes.set_xlabel("block")
    figure.suptitle(f"{len(names)} modules, cosine of all {found.cosine:.3f}")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _label(axes: Axes, title: str, kinds: list[str], columns: list[str]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axes.tick_params(length=0)


def _ratio(one: Likeness) -> float:
    return math.log2(one.norm_b / one.norm_a) if one.norm_a and one.norm_b else math.nan
