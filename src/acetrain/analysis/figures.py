"""What a report looks like: scores by layer and kind of module, and spectra."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from acetrain.analysis.report import Measured, Report, significant
from acetrain.atomic import replacing

SHOWN = 8
"""Modules whose spectra are drawn."""
_IN_BLOCK = re.compile(r"layers\.(\d+)\.(.+)")
_SHORT = {"self_attn": "self", "cross_attn": "cross", "_proj": ""}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's, which the colour-blind tell apart."""
_MARKERS = "os^Dv<>P"


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """Write `heat_map.png` and `spectra.png` into the folder."""
    pictures = {"heat_map": heat_map(report), "spectra": spectra(report)}
    for name, figure in pictures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120, format="png")
    return {name: folder / f"{name}.png" for name in pictures}


def heat_map(report: Report) -> Figure:
    """Norms of mean gradients, in all and per bin: layers down, kinds of modules across; modules outside of the blocks
    below."""
    sections = _sections([module.name for module in report.modules])
    panels = ["all timesteps", *(f"t {a:.2f} to {b:.2f}" for a, b in zip(report.edges, report.edges[1:], strict=False))]
    across = max(len(section.columns) for section in sections)
    rows = [len(section.rows) for section in sections]
    size = (2.2 + len(panels) * (0.3 + 0.2 * across), 2.0 + 0.22 * sum(rows) + 1.3 * len(sections))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(sections), len(panels), squeeze=False, sharey="row", height_ratios=rows)
    colours = _norm(report), "PuOr_r"
    for column, title in enumerate(panels):
        found = {module.name: [module, *module.bins][column] for module in report.modules}
        for row, section in enumerate(sections):
            _cells(axes[row, column], section, found, colours)
        axes[0, column].set_title(title, fontsize=9)
    for row, section in enumerate(sections):
        axes[row, 0].set_yticks(range(len(section.rows)), section.rows, fontsize=7)
        axes[row, 0].set_ylabel(section.label, fontsize=9)
    bar = figure.colorbar(ScalarMappable(*colours), ax=axes, shrink=0.9, pad=0.01)
    bar.set_label("norm of the mean gradient,\nsign(score) sqrt|score|", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    dots = "; dot: the 95 % interval holds 0" if any(module.interval for module in report.modules) else ""
    figure.suptitle(f"Sensitivity by module{dots}", fontsize=10)
    return figure


@dataclass(frozen=True)
class Section:
    """A part of the heat map."""

    label: str
    rows: list[str]
    columns: list[str]
    names: dict[tuple[int, int], str]
    """Row and column -> module."""


def _sections(names: Sequence[str]) -> list[Section]:
    """The modules of blocks, and those outside of them; a part without modules is left out."""
    places = {name: match.groups() for name in names if (match := _IN_BLOCK.fullmatch(name))}
    blocks = sorted({int(block) for block, _ in places.values()})
    kinds = list(dict.fromkeys(kind for _, kind in places.values()))
    cells = {(blocks.index(int(block)), kinds.index(kind)): name for name, (block, kind) in places.items()}
    outside = [name for name in names if name not in places]
    sections = [
        Section("layer", [str(block) for block in blocks], [_short(kind) for kind in kinds], cells),
        Section("", ["outside"], outside, {(0, column): name for column, name in enumerate(outside)}),
    ]
    return [section for section in sections if section.names]


def _short(kind: str) -> str:
    for long, short in _SHORT.items():
        kind = kind.replace(long, short)
    return kind.replace(".", " ")


def _norm(report: Report) -> AsinhNorm:
    """Colours by size, finely near 0, the same in all panels."""
    scores = [one.score for module in report.modules for one in (module, *module.bins)]
    largest = max(map(abs, map(_root, scores))) or 1.0
    return AsinhNorm(linear_width=largest / 10, vmin=-largest, vmax=largest)


def _cells(axes: Axes, section: Section, found: Mapping[str, Measured], colours: tuple[AsinhNorm, str]) -> None:
    values = np.full((len(section.rows), len(section.columns)), np.nan)
    for place, name in section.names.items():
        values[place] = _root(found[name].score)
        if found[name].interval and not significant(found[name]):
            axes.plot(place[1], place[0], ".", color="black", markersize=2.5)
    axes.set_xticks(range(len(section.columns)), section.columns, rotation=90, fontsize=7)
    axes.tick_params(length=0)
    axes.imshow(values, norm=colours[0], cmap=colours[1], aspect="auto", interpolation="nearest")


def _root(score: float) -> float:
    return float(np.sign(score) * abs(score) ** 0.5)


def spectra(report: Report) -> Figure:
    """Cross-validated singular values: of the modules with the highest scores, and how many of each are above 0."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    curves, kinds = figure.subplots(1, 2, width_ratios=[1.3, 1])
    for place, module in enumerate(report.ranked()[:SHOWN]):
        values = np.array(module.spectrum)
        style = {"color": _COLOURS[place], "marker": _MARKERS[place], "markersize": 3, "linewidth": 1}
        curves.plot(np.arange(1, len(values) + 1), values, label=module.name, **style)
    curves.axhline(0, color="0.5", linewidth=0.8)
    curves.set(
        title="modules with the highest scores",
        xlabel="direction i",
        ylabel="singular value, judged by the other half",
        xscale="log",
    )
    largest = max((max(module.spectrum, default=0.0) for module in report.modules), default=0.0) or 1.0
    least = min((min(module.spectrum, default=0.0) for module in report.ranked()[:SHOWN]), default=0.0)
    curves.set_yscale("symlog", linthresh=largest / 100, linscale=0.5)
    curves.set_ylim(min(2 * least, -largest / 200), 1.5 * largest)
    curves.legend(fontsize=7)
    _shares(kinds, report)
    for axes in (curves, kinds):
        axes.xaxis.set_major_formatter("{x:.0f}")
    return figure


def _shares(axes: Axes, report: Report) -> None:
    """Share of the squared singular values, the negative ones taken for 0, that the first ranks hold, by module."""
    axes.set(title="all modules", xlabel="rank", ylabel="share of the squared values", xscale="log", ylim=(0, 1.02))
    shares = []
    for module in report.modules:
        squares = np.clip(np.array(module.spectrum), 0, None) ** 2
        if squares.sum() > 0:
            shares.append(np.cumsum(squares) / squares.sum())
            axes.plot(np.arange(1, len(squares) + 1), shares[-1], color="0.8", linewidth=0.6)
    if not shares:
        return
    longest = max(map(len, shares))
    padded = np.array([np.pad(share, (0, longest - len(share)), constant_values=1.0) for share in shares])
    axes.plot(np.arange(1, longest + 1), np.median(padded, axis=0), color=_COLOURS[0], linewidth=2, label="median")
    axes.legend(fontsize=8)
