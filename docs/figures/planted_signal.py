"""A known gradient in known noise: what each estimate makes of it. `python docs/figures/planted_signal.py`

Songs have gradients G + N_s. G has rank 6; N_s is random, the same law for each, stronger in some rows and columns
than in others, as gradients have few strong directions. They go through what the job adds gradients up with,
whole and as sketches, and through its estimates. Repeated over seeds, with the noise, the halves and the sketches new
each time, that gives bias and coverage, which single runs cannot.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acetrain.analysis.accumulate import Accumulator, Sides
from acetrain.analysis.estimates import Estimate, Half, estimate
from acetrain.analysis.sketch import Signs
from acetrain.keyed import generator

HERE = Path(__file__).parent
SEEDS = 200
SHAPE = (320, 256)
SONGS = 24
SKETCH = 64
RANK_MAX = 16
SPECTRUM = (7.0, 6.0, 5.0, 3.6, 2.6, 1.7)
"""Singular values of G: |G|^2 is 133."""
NOISE = 3000.0
"""Mean of |N_s|^2."""
DECAY = 0.3
"""Exponent by which noise falls from row to row and from column to column."""
STRENGTHS = (0.0, 0.3, 1.0)
"""Factors on G: no signal, a weak and a clear one."""
METHODS = ("exact", "sketch")
INK = {"exact": "#0072B2", "sketch": "#D55E00", "naive": "#CC79A7", "fisher": "#E69F00", "true": "black"}


@dataclass(frozen=True)
class Trial:
    """What one seed gave: the estimates by method, and the spectrum of the mean over all songs as it is."""

    found: Mapping[str, Estimate]
    naive_spectrum: list[float]


def signal() -> torch.Tensor:
    """G, the same in every trial."""
    draw = generator("planted signal")
    sides = [torch.linalg.qr(torch.randn(width, len(SPECTRUM), generator=draw)).Q for width in SHAPE]
    return sides[0] * torch.tensor(SPECTRUM) @ sides[1].T


def noises(seed: int) -> torch.Tensor:
    """N_s of each song, [song, output, input]."""
    draw = torch.randn(SONGS, *SHAPE, generator=generator("planted noise", seed))
    rows, columns = (torch.arange(1, width + 1) ** -DECAY for width in SHAPE)
    scale = (NOISE / float(rows.square().sum() * columns.square().sum())) ** 0.5
    return scale * rows[:, None] * draw * columns


def trial(seed: int, strength: float) -> Trial:
    """The estimates from the songs of one seed: halves of 12, each song a group of its own."""
    gradients = strength * signal() + noises(seed)
    halves = gradients.split(SONGS // 2)
    weight = torch.ones(SHAPE, dtype=torch.float64)
    found = {}
    for method, sketch in zip(METHODS, (0, SKETCH), strict=True):
        sums = [_summed(songs, Signs(sketch, seed, half)) for half, songs in enumerate(halves)]
        found[method] = estimate(sums[0], sums[1], weight, RANK_MAX)
    return Trial(found, torch.linalg.svdvals(gradients.mean(0))[:RANK_MAX].tolist())


def _summed(songs: torch.Tensor, signs: Signs) -> Half:
    """The songs of a half as the job adds them up: gradients as products dY' X with X the identity."""
    accumulator, parts = Accumulator(SHAPE, Sides(signs, torch.device("cpu"), torch.float32)), []
    for gradient in songs:
        accumulator.add(gradient.T.contiguous(), torch.eye(SHAPE[1]), torch.ones(()), 1 / len(songs))
        parts.append(accumulator.part.clone())
        accumulator.part.zero_()
    sums = {**accumulator.sums, "groups": torch.stack(parts)}
    return Half.of([sums], [1 / len(songs)] * len(songs), signs)


def summary(trials: Sequence[Trial], strength: float) -> dict[str, Any]:
    """Means, standard deviations and coverage over trials."""
    truth = strength**2 * sum(value**2 for value in SPECTRUM)
    exact = [one.found["exact"] for one in trials]
    estimates = {
        **{f"split-half, {method}": [one.found[method].score for one in trials] for method in METHODS},
        **{name: [one.baselines[name] for one in exact] for name in ("naive", "fisher")},
    }
    spectra = {f"cross-validated, {method}": [one.found[method].spectrum for one in trials] for method in METHODS}
    spectra["naive"] = [one.naive_spectrum for one in trials]
    return {
        "true": truth,
        "estimates": {name: _moments(values, truth) for name, values in estimates.items()},
        "interval": {method: _width([one.found[method] for one in trials]) for method in METHODS},
        "coverage": {method: _coverage([one.found[method] for one in trials], truth) for method in METHODS},
        "above zero": {method: _sure([one.found[method] for one in trials]) for method in METHODS},
        "spectrum": {
            "true": [strength * value for value in SPECTRUM] + [0.0] * (RANK_MAX - len(SPECTRUM)),
            **{name: np.mean(values, axis=0).tolist() for name, values in spectra.items()},
        },
    }


def _moments(values: Sequence[float], truth: float) -> dict[str, float]:
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return {"mean": mean, "bias": mean - truth, "error of the bias": error, "sd": error * len(values) ** 0.5}


def _coverage(found: Sequence[Estimate], truth: float) -> float:
    """Share of the 95 % intervals that hold the truth."""
    return float(np.mean([one.interval is not None and one.interval[0] <= truth <= one.interval[1] for one in found]))


def _width(found: Sequence[Estimate]) -> float:
    """Mean half-width of the 95 % intervals."""
    return float(np.mean([(one.interval[1] - one.interval[0]) / 2 for one in found if one.interval]))


def _sure(found: Sequence[Estimate]) -> float:
    """Share of the 95 % intervals that lie above 0."""
    return float(np.mean([one.interval is not None and one.interval[0] > 0 for one in found]))


def draw(trials: Mapping[float, Sequence[Trial]], summaries: Mapping[float, dict[str, Any]]) -> Figure:
    """Estimates beside the truth, intervals, and spectra."""
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.3), layout="constrained", width_ratios=[1, 1.1, 1.1])
    _estimates(axes[0], summaries[1.0])
    _intervals(axes[1], trials[1.0], summaries)
    _spectra(axes[2], summaries[1.0])
    figure.suptitle(
        f"A gradient of rank {len(SPECTRUM)} in noise, {SONGS} songs, {len(trials[1.0])} seeds", fontsize=11
    )
    return figure


def _estimates(axes: Axes, found: dict[str, Any]) -> None:
    for place, (name, moments) in enumerate(found["estimates"].items()):
        colour = INK[name.split(", ")[-1]]
        axes.errorbar(place, moments["mean"], 2 * moments["sd"], fmt="o", color=colour, capsize=4)
        axes.annotate(f"{moments['mean']:.0f}", (place, moments["mean"]), xytext=(8, 4), textcoords="offset points")
    axes.axhline(found["true"], color="black", linestyle="--", linewidth=1)
    axes.text(2.2, found["true"], f"true: {found['true']:.0f}", va="bottom", fontsize=9)
    names = [name.replace(", ", "\n") for name in found["estimates"]]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set(
        title="squared norm of the mean gradient",
        yscale="log",
        ylabel="estimate: mean, 2 sd",
        xlim=(-0.5, 3.7),
        ylim=(90, 6000),
    )


def _intervals(axes: Axes, trials: Sequence[Trial], summaries: Mapping[float, dict[str, Any]]) -> None:
    truth = summaries[1.0]["true"]
    found = sorted((one.found["exact"] for one in trials), key=lambda one: one.score)
    for place, one in enumerate(found):
        low, high = one.interval or (one.score, one.score)
        axes.plot([place, place], [low, high], color=INK["exact"] if low <= truth <= high else INK["sketch"], lw=0.8)
    axes.axhline(truth, color="black", linestyle="--", linewidth=1)
    lines = [
        f"|G|² = {one['true']:.0f}: {one['coverage']['exact']:.1%} exact, {one['coverage']['sketch']:.1%} sketch"
        for one in summaries.values()
    ]
    axes.text(0.03, 0.97, "\n".join(["coverage", *lines]), transform=axes.transAxes, va="top", fontsize=8)
    axes.set(title="95 % intervals, exact (orange misses)", xlabel="seed, by score", ylabel="|G|²")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.15)


def _spectra(axes: Axes, found: dict[str, Any]) -> None:
    ranks = np.arange(1, RANK_MAX + 1)
    styles = {"true": "--", "cross-validated, exact": "o-", "cross-validated, sketch": "s-", "naive": "^-"}
    for name, style in styles.items():
        colour = INK[name.split(", ")[-1]]
        axes.plot(ranks, found["spectrum"][name], style, color=colour, markersize=4, linewidth=1.2, label=name)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set(title="singular values, mean over seeds", xlabel="direction i", ylabel="value")
    axes.legend(fontsize=8)


def main() -> None:
    """Write the figures beside this file."""
    torch.set_num_threads(1)
    trials = {strength: [trial(seed, strength) for seed in range(SEEDS)] for strength in STRENGTHS}
    summaries = {strength: summary(found, strength) for strength, found in trials.items()}
    draw(trials, summaries).savefig(HERE / "planted_signal.png", dpi=120)
    settings = {"seeds": SEEDS, "songs": SONGS, "shape": SHAPE, "sketch": SKETCH, "noise": NOISE}
    content = {"settings": settings, "strengths": {f"{strength:g}": one for strength, one in summaries.items()}}
    (HERE / "planted_signal.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
