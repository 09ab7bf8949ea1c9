"""Draw the figures of `docs/timesteps.md` and print its table: `python docs/figures/timesteps.py`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.data.batch import collate
from acetrain.flow.adaptive import Adaptive
from acetrain.flow.importance import frequencies
from acetrain.flow.timesteps import Discrete, Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.training.draws import shares

HERE = Path(__file__).parent
SOURCES = Sources((PACKAGED,))
POINTS = 400
"""Points of a curve."""
ORDER = ("acestep", "logit_normal", "uniform", "discrete", "mode", "cosmap", "beta", "adaptive")
SHIFTS = (0.5, 1.0, 3.0)
INTERVAL = (0.2, 0.7)
DRAWS = 24
"""Draws shown to compare independent with stratified ones."""

Curve = tuple[list[float], list[float]]


def option(group: str, name: str) -> Any:
    """An option with its defaults."""
    return getattr(Composer("train", SOURCES).compose([read(f"{group}={name}"), read("cache=x")]).build(), group)


def grid() -> torch.Tensor:
    """Shares, closer together towards 0 and 1 so that curves reach where hardly anything is drawn."""
    return torch.sigmoid(torch.linspace(-16, 16, POINTS + 1, dtype=torch.float64))


def density(timesteps: Timesteps) -> Curve:
    """The density as (t, f): the slope of the CDF, between quantiles; levels and their shares where it is discrete."""
    if isinstance(timesteps, Discrete):
        return timesteps.levels, [1 / len(timesteps.levels)] * len(timesteps.levels)
    u = grid()
    t = timesteps.quantile(u)
    return ((t[1:] + t[:-1]) / 2).tolist(), (u.diff() / t.diff()).tolist()


def drawn_by(timesteps: Adaptive, curve: Curve) -> Curve:
    """How often times are drawn while the running loss falls from 3 to 1 over the bins."""
    losses = torch.linspace(3, 1, timesteps.bins, dtype=torch.float64)
    often = frequencies(torch.stack([losses, torch.ones_like(losses)]), timesteps.floor) * timesteps.bins
    bins = (grid()[1:] * timesteps.bins).long()
    return curve[0], (torch.tensor(curve[1]) * often[bins]).tolist()


def curves() -> dict[str, Mapping[str, Curve]]:
    """The data of each figure: curve -> (x, y)."""
    chosen = {name: option("timesteps", name) for name in ORDER}
    densities = {name: density(timesteps) for name, timesteps in chosen.items()}
    densities["adaptive, drawn"] = drawn_by(chosen["adaptive"], densities["adaptive"])
    plain = chosen["acestep"]
    shifts = {f"shift {shift:g}": density(replace(plain, shift=shift)) for shift in SHIFTS}
    low, high = INTERVAL
    given = {"[0, 1]": densities["acestep"], f"[{low}, {high}]": density(replace(plain, low=low, high=high))}
    spread = {kind: draws(replace(plain, stratified=kind == "stratified")) for kind in ("independent", "stratified")}
    t = torch.linspace(0.005, 0.995, 199)
    weightings: dict[str, Weighting] = {name: option("weighting", name) for name in SOURCES.options("weighting")}
    weights = {name: (t.tolist(), weighting.weights(t).tolist()) for name, weighting in weightings.items()}
    return {"densities": densities, "shift": shifts, "interval": given, "draws": spread, "weightings": weights}


def draws(timesteps: Timesteps) -> Curve:
    """The times of the first songs of a run, by their place."""
    one = torch.zeros(1, 1)
    batch = collate([(one, one)] * DRAWS, [(0, 0, f"{place}.wav", 0) for place in range(DRAWS)], 1.0)
    times = timesteps.quantile(shares(batch, timesteps.stratified))
    return times.tolist(), [float(place) for place in range(DRAWS)]


def digest(data: Mapping[str, Any]) -> str:
    """What a figure shows, as sixteen hex digits."""
    rounded = {name: [[float(f"{value:.4g}") for value in part] for part in curve] for name, curve in data.items()}
    return hashlib.sha256(json.dumps(rounded).encode()).hexdigest()[:16]


def table() -> list[str]:
    """Rows of the table: quantiles and mean of every density."""
    lines = ["| option | 5 % | 25 % | 50 % | 75 % | 95 % | mean |", "| --- | --- | --- | --- | --- | --- | --- |"]
    even = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for name in ORDER:
        timesteps = option("timesteps", name)
        cells = [*timesteps.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)).tolist()]
        cells.append(timesteps.quantile(even).mean().item())
        lines.append(f"| `{name}` | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return lines


def draw_densities(data: Mapping[str, Curve]) -> Figure:
    """One panel an option."""
    figure, panels = plt.subplots(2, 4, figsize=(11, 4.6), sharex=True, layout="constrained")
    for axes, name in zip(panels.flat, ORDER, strict=True):
        if name == "discrete":
            axes.vlines(data[name][0], 0, data[name][1], color="C0", linewidth=3)
        elif name == "adaptive":
            axes.plot(*data[name], color="0.6", label="density")
            axes.plot(*data["adaptive, drawn"], color="C0", linewidth=1, label="drawn, at losses\nfalling from 3 to 1")
            axes.legend(fontsize="x-small", frameon=False, loc="upper left")
            axes.set_ylim(top=3.6)
        else:
            axes.fill_between(*data[name], color="C0", alpha=0.3)
            axes.plot(*data[name], color="C0")
        axes.set(title=name, xlim=(0, 1), ylabel="share" if name == "discrete" else None)
        axes.set_ylim(bottom=0)
    for axes in panels[1]:
        axes.set_xlabel("t (0 data, 1 noise)")
    return figure


def draw_keys(data: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """What shift, interval and stratification do to `acestep`."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3), sharex=True, layout="constrained")
    for axes, name in zip(panels, ("shift", "interval"), strict=False):
        lines(axes, data[name])
        for index, curve in enumerate(data[name].values()):
            axes.fill_between(*curve, color=f"C{index}", alpha=0.15)
        axes.set(title="shift" if name == "shift" else "low and high", ylim=(0, None))
    for (kind, (t, places)), marker in zip(data["draws"].items(), "x.", strict=True):
        axes = panels[2]
        height = 1.0 if kind == "independent" else 0.0
        axes.plot(t, [height] * len(places), marker, color="C0" if height == 0 else "C1", markersize=7)
    panels[2].set(title=f"{DRAWS} draws", ylim=(-0.6, 1.6), yticks=[0, 1], yticklabels=["stratified", "independent"])
    for axes in panels:
        axes.set(xlabel="t (0 data, 1 noise)", xlim=(0, 1))
    return figure


def draw_weightings(data: Mapping[str, Curve]) -> Figure:
    """Every weighting; `sigma_sqrt` leaves the picture at the clean end."""
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    lines(axes, data)
    axes.set(xlabel="t (0 data, 1 noise)", ylabel="w(t)", xlim=(0, 1), ylim=(0, 3))
    return figure


def lines(axes: Axes, data: Mapping[str, Curve]) -> None:
    """Curves with a legend."""
    for name, curve in data.items():
        axes.plot(*curve, label=name)
    axes.legend(fontsize="small", frameon=False)


def write(folder: Path) -> list[Path]:
    """Write every figure; each carries the digest of what it shows."""
    data = curves()
    keys = {name: data[name] for name in ("shift", "interval", "draws")}
    together = {f"{group} {name}": curve for group, part in keys.items() for name, curve in part.items()}
    figures = {
        "timesteps_densities": (draw_densities(data["densities"]), data["densities"]),
        "timesteps_keys": (draw_keys(keys), together),
        "timesteps_weightings": (draw_weightings(data["weightings"]), data["weightings"]),
    }
    paths = []
    for name, (figure, shown) in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=90, metadata={"Software": None, "Description": digest(shown)})
        plt.close(figure)
    return paths


if __name__ == "__main__":
    plt.switch_backend("agg")
    print(*table(), *write(HERE), sep="\n")
