"""Charts as SVG text, coloured by the classes of `report.css`, so that a page of them is one file, light or dark."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` on the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, log: bool = False) -> "Scale":
        """A scale that holds the values, with a little room beside them."""
        found = [value for value in values if math.isfinite(value)]
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        if log:
            return cls(low, high if high > low else low * 10, start, end, True)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (map(math.log, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers on the scale, about so many."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            decades = [10.0**power for power in range(first, last + 1)]
            return decades if len(decades) > 1 else [self.low, self.high]
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
        first = math.ceil(self.low / step)
        return [round(step * place, 12) for place in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Line:
    """A curve with the range of its repetitions."""

    key: str
    """Of the setting, by which its marks on the page are found."""
    style: str
    """Its classes, such as `s0`; `rest` is in the background."""
    label: str
    points: Sequence[Point]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def curves(lines: Sequence[Line], title: str, across: str, up: str) -> str:
    """Curves over steps, the first lines on top."""
    width, height, left, bottom = 520, 320, 56, 44
    every = [point for line in lines for point in line.points]
    x = Scale.over((point[0] for point in every), left, width - 12)
    spread = [value for line in lines for value in (*line.low, *line.high)]
    y = Scale.over([*(point[1] for point in every), *spread], height - bottom, 14)
    parts = [_grid(x, y, width, left), *(_curve(line, x, y) for line in reversed(lines))]
    parts += [
        f'<text class="label" x="{(left + width - 12) / 2:.0f}" y="{height - 6}" text-anchor="middle">{across}</text>',
        f'<text class="label" transform="translate(13 {(height - bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{up}</text>',
    ]
    return _svg(width, height, title, parts)


def _curve(line: Line, x: Scale, y: Scale) -> str:
    band = ""
    steps = [point[0] for point in line.points]
    if line.low and len(steps) > 1:
        upper = [f"{x.at(step):.1f},{y.at(value):.1f}" for step, value in zip(steps, line.high, strict=True)]
        lower = [f"{x.at(step):.1f},{y.at(value):.1f}" for step, value in zip(steps, line.low, strict=True)]
        band = f'<polygon class="band" points="{" ".join([*upper, *reversed(lower)])}"/>'
    path = " ".join(f"{x.at(step):.1f},{y.at(value):.1f}" for step, value in line.points)
    title = f"<title>{escape(line.label)}</title>"
    return f'<g class="{line.style}" data-s="{line.key}">{title}{band}<polyline class="line" points="{path}"/></g>'


def _grid(x: Scale, y: Scale, width: int, left: int) -> str:
    lines = [
        f'<line class="grid" x1="{left}" x2="{width - 12}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>'
        f'<text class="tick" x="{left - 7}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in y.ticks()
    ]
    lines += [
        f'<text class="tick" x="{x.at(tick):.1f}" y="{y.start + 17:.1f}" text-anchor="middle">{tick:g}</text>'
        for tick in x.ticks(6)
        if tick >= 0
    ]
    return "".join(lines)


def whisker(x: Scale, mean: float, interval: float, losses: Sequence[float], style: str) -> str:
    """A mean with its interval and the values it is of, for a cell of a table; the scale is shared by its rows."""
    marks = [f'<circle class="one" cx="{x.at(loss):.1f}" cy="10" r="2.5"/>' for loss in losses]
    if math.isfinite(interval):
        low, high = max(x.at(mean - interval), x.start - 4), min(x.at(mean + interval), x.end + 4)
        marks.insert(0, f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10"/>')
    if math.isfinite(mean):
        marks.append(f'<circle class="mean" cx="{x.at(mean):.1f}" cy="10" r="4.5"/>')
    known = f"mean {mean:.4g}" if math.isfinite(mean) else "no loss yet"
    said = known + (f" ± {interval:.2g}" if math.isfinite(interval) else "")
    return _svg(int(x.end + 10), 20, said, [f'<g class="{style}">', *marks, "</g>"], "whisker")


@dataclass(frozen=True)
class Axis:
    """An upright axis of a chart with parallel coordinates."""

    name: str
    marks: Sequence[tuple[str, float]]
    """Text and place, from 0 at the bottom to 1."""
    places: Sequence[float | None]
    """Of each line; None for one that has no value here."""


@dataclass(frozen=True)
class Through:
    """A line through all axes."""

    key: str
    """Of the setting, as a curve has it."""
    label: str
    rank: float
    """From 0, the best, to 1."""
    finished: bool


def parallel(axes: Sequence[Axis], lines: Sequence[Through]) -> str:
    """A line for each setting over all axes, the best on top."""
    gap = max(120, min(240, 860 // max(1, len(axes) - 1)))
    width, height, top, bottom = 90 * 2 + gap * (len(axes) - 1), 380, 46, 20
    across = [90 + gap * place for place in range(len(axes))]
    drawn = [_through(axes, across, (top, height - bottom), place, line) for place, line in enumerate(lines)]
    parts = [path for _, path in sorted(zip(lines, drawn, strict=True), key=lambda pair: -pair[0].rank)]
    for axis, at in zip(axes, across, strict=True):
        name = f'<text class="axis-name" x="{at}" y="20" text-anchor="middle">{escape(axis.name)}</text>'
        parts.append(f'{name}<line class="axis" x1="{at}" x2="{at}" y1="{top}" y2="{height - bottom}"/>')
        for text, place in axis.marks:
            y = height - bottom - place * (height - bottom - top)
            parts.append(
                f'<circle class="dot" cx="{at}" cy="{y:.1f}" r="2.5"/>'
                f'<text class="tick halo" x="{at + 8}" y="{y + 4:.1f}">{escape(text)}</text>'
            )
    size = f"min-width:{width * 0.7:.0f}px;max-width:{width * 1.1:.0f}px"
    return _svg(width, height, "parallel coordinates", parts, "wide", size)


def _through(axes: Sequence[Axis], across: Sequence[float], span: tuple[int, int], place: int, line: Through) -> str:
    shift = (line.rank - 0.5) * 10  # settings that share a value do not lie on one another
    points = [
        (at, span[1] - up * (span[1] - span[0]) + (0 if axis is axes[-1] else shift))
        for axis, at in zip(axes, across, strict=True)
        if (up := axis.places[place]) is not None
    ]
    path = f"M{points[0][0]} {points[0][1]:.1f}" + "".join(
        f" C{(a + c) / 2:.0f} {b:.1f} {(a + c) / 2:.0f} {d:.1f} {c} {d:.1f}"
        for (a, b), (c, d) in itertools.pairwise(points)
    )
    colour = f"stroke:color-mix(in oklab, var(--bad) {line.rank * 100:.0f}%, var(--good))"
    kind = "through" + (" best" if line.rank == 0 else "") + ("" if line.finished else " open")
    title = f"<title>{escape(line.label)}</title>"
    return f'<path class="{kind}" data-s="{line.key}" style="{colour}" d="{path}">{title}</path>'


def _svg(width: int, height: int, title: str, parts: Sequence[str], style: str = "", css: str = "") -> str:
    opening = (
        f'<svg class="{style}" style="{css}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    )
    return "".join([opening, *parts, "</svg>"])
