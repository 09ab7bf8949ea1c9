"""The results of a sweep as the charts of its report."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from acetrain.sweeps.charts import Axis, Line, Scale, Through, curves, parallel, whisker
from acetrain.sweeps.listing import loss, number
from acetrain.sweeps.results import Curve, Result, Results, Setting
from acetrain.sweeps.state import State
from acetrain.sweeps.table import shown

COLOURS = 6
"""Settings, the best ones, that have a colour; the others are in the background."""
BINS = 80
"""Points of a curve of the training loss, each a mean over equally many steps."""
ORDINAL = 8
"""Most values of a key that stand equally far apart on its axis."""
WIDE_RANGE = 30
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def style(place: int, setting: Setting) -> str:
    """The class of the setting at a place of the ranking."""
    return f"s{place}" if place < COLOURS and setting.losses else "rest"


def label(setting: Setting) -> str:
    """What a setting is, on one line."""
    return " ".join(f"{key}={shown(value)}" for key, value in setting.values.items()) or "the only setting"


def training(results: Results) -> str:
    """The training loss of each setting: the mean of its runs, and from the lowest to the highest of them."""
    return _drawn(
        results, "training loss", [[_binned(run.training) for run in setting.runs] for setting in results.settings]
    )


def held_out(results: Results) -> str:
    """The held-out loss of each setting, in the same way; empty where no run has any."""
    found = [[run.held_out for run in setting.runs] for setting in results.settings]
    return _drawn(results, "held-out loss", found) if any(curve for runs in found for curve in runs) else ""


def _drawn(results: Results, title: str, found: Sequence[Sequence[Curve]]) -> str:
    lines = [
        _line(place, setting, [curve for curve in runs if curve])
        for place, (setting, runs) in enumerate(zip(results.settings, found, strict=True))
    ]
    return curves([line for line in lines if line.points], title, "optimizer step", title)


def _line(place: int, setting: Setting, runs: Sequence[Curve]) -> Line:
    steps = sorted(set.intersection(*({step for step, _ in run} for run in runs))) if runs else []
    table = np.array([[dict(run)[step] for step in steps] for run in runs])
    points = list(zip(map(float, steps), table.mean(axis=0).tolist(), strict=True)) if steps else []
    several = len(runs) > 1 and place < COLOURS and bool(steps)
    band = (table.min(axis=0).tolist(), table.max(axis=0).tolist()) if several else ((), ())
    return Line(str(place), style(place, setting), label(setting), points, *band)


def _binned(curve: Curve) -> Curve:
    """Means over equal numbers of steps, each at the last of them, the same for runs of the same length."""
    width = max(1, math.ceil((curve[-1][0] if curve else 0) / BINS))
    bins: dict[int, list[float]] = {}
    for step, value in curve:
        bins.setdefault(math.ceil(step / width) * width, []).append(value)
    return [(step, float(np.mean(values))) for step, values in sorted(bins.items())]


def losses(results: Results) -> list[str]:
    """For each setting its losses on one scale, which a wide interval may go beyond."""
    finished = [setting for setting in results.settings if setting.losses]
    found = [one for setting in finished for one in setting.losses]
    room = 0.3 * (max(found) - min(found)) if found else 0.0
    sides = [setting.mean + side * min(setting.interval, room) for setting in finished for side in (-1, 1)]
    whole = Scale.over([*found, *sides], 8, 172)
    return [
        whisker(whole, setting.mean, setting.interval, setting.losses, style(place, setting))
        for place, setting in enumerate(results.settings)
    ]


def coordinates(results: Results) -> str:
    """Each setting as a line over the keys that differ and the loss, or how low it came; empty below two of them."""
    lines = {place: setting for place, setting in enumerate(results.settings) if math.isfinite(setting.reached)}
    if len(lines) < 2:
        return ""
    losses = [setting.mean if setting.losses else setting.reached for setting in lines.values()]
    scale = Scale.over(losses, 0.0, 1.0)
    marks = [(number(tick), scale.at(tick)) for tick in scale.ticks()]
    axes = [_axis(key, [setting.values.get(key) for setting in lines.values()]) for key in results.compared]
    axes.append(Axis(results.objective, marks, [scale.at(one) for one in losses]))
    ranks = [place / (len(lines) - 1) for place in range(len(lines))]
    return parallel(axes, [_through(*line, rank) for line, rank in zip(lines.items(), ranks, strict=True)])


def _through(place: int, setting: Setting, rank: float) -> Through:
    loss_of = loss(setting.mean) if setting.losses else f"not finished, {loss(setting.reached)} so far"
    return Through(str(place), f"{label(setting)}: {loss_of}", rank, bool(setting.losses))


def _axis(key: str, values: Sequence[Any]) -> Axis:
    numbers = [float(value) for value in values if _is_number(value)]
    numeric = len(numbers) == sum(value is not None for value in values)
    if numeric and len(set(numbers)) > ORDINAL:
        log = min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE_RANGE
        scale = Scale.over(numbers, 0.0, 1.0, log)
        marks = [(number(tick), scale.at(tick)) for tick in scale.ticks()]
        return Axis(key, marks, [None if value is None else scale.at(value) for value in values])
    levels = [value for _, value in sorted({_sortable(value) for value in values if value is not None})]
    last = max(1, len(levels) - 1)
    places = {level: place / last if len(levels) > 1 else 0.5 for place, level in enumerate(levels)}
    marks = [(shown(level), place) for level, place in places.items()]
    return Axis(key, marks, [None if value is None else places[_sortable(value)[1]] for value in values])


def effects(results: Results) -> list[tuple[str, list[tuple[str, float, int]]]]:
    """For each key the mean loss of the settings with each of its values, where it has few, and how many these are."""
    finished = [setting for setting in results.settings if setting.losses]
    found: list[tuple[str, list[tuple[str, float, int]]]] = []
    for key in results.compared:
        groups: dict[Any, list[float]] = {}
        for setting in finished:
            groups.setdefault(_sortable(setting.values.get(key)), []).append(setting.mean)
        if 1 < len(groups) <= ORDINAL:
            found.append((key, [(shown(value), float(np.mean(m)), len(m)) for (_, value), m in sorted(groups.items())]))
    return found


def _sortable(value: Any) -> tuple[Any, Any]:
    """Numbers by size before texts."""
    return ((0, value, ""), value) if _is_number(value) else ((1, 0, shown(value)), shown(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def failures(results: Results) -> list[Result]:
    """The runs that are neither finished nor pruned, those that failed first."""
    order = list(State)
    left = [run for run in results.runs if not run.state.settled]
    return sorted(left, key=lambda run: (run.state is not State.failed, order.index(run.state)))
