"""Draw the figures of `docs/sensitivity.md` from the runs of two sweeps, and write what they show to a JSON file.

python docs/figures/sensitivity_study.py sensitivity/sensitivity.json runs/single_modules runs/targets

`sweeps/single_modules.yaml` and `sweeps/targets.yaml` say how the runs are made.
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from omegaconf import OmegaConf
from scipy.stats import rankdata

from acetrain.analysis.report import Module, Report
from acetrain.atomic import write_text

HERE = Path(__file__).parent
RANK = 8
"""Rank of the adapters of `sweep=single_modules`."""
RESAMPLED = 10_000
SCORE = "split-half score"
INK, OURS, OTHER, NOISE = "#24303c", "#2f6f9f", "#9aa5b1", "#c8553d"

PREDICTORS: Mapping[str, Callable[[Module], float]] = {
    SCORE: lambda module: module.score,
    f"cross-validated gain at rank {RANK}": lambda module: sum(max(value, 0) ** 2 for value in module.spectrum[:RANK]),
    "naive |mean gradient|²": lambda module: module.baselines["naive"],
    "Fisher E[g²]": lambda module: module.baselines["fisher"],
    "gradient norm": lambda module: module.baselines["gradient_norm"],
    "|W·G|": lambda module: module.baselines["weight_gradient"],
    "−NFN (PLoP)": lambda module: -module.baselines["nfn"],
    "size (outputs + inputs)": lambda module: sum(module.shape),
}
"""What is set against the fall of loss; the last knows nothing of the songs."""


def fall(run: Path) -> tuple[float, float]:
    """Held-out loss of the base, and how much lower it is after the last step."""
    with (run / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    steps = sorted({int(row["step"]) for row in rows})
    ends = [np.mean([float(row["loss"]) for row in rows if int(row["step"]) == step]) for step in (steps[0], steps[-1])]
    return float(ends[0]), float(ends[0] - ends[1])


def runs(folder: Path) -> list[tuple[dict[str, Any], Path]]:
    """The finished runs below a folder, with their settings."""
    found = [path.parent for path in sorted(folder.glob("*/config.yaml")) if (path.parent / "adapter").is_dir()]
    return [(settings(path / "config.yaml"), path) for path in found]


def settings(file: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def single(folder: Path) -> dict[str, list[float]]:
    """Falls of held-out loss by module, a seed each."""
    falls: dict[str, list[float]] = {}
    for content, run in runs(folder):
        falls.setdefault(content["targets"]["include"][0], []).append(fall(run)[1])
    return falls


def correlation(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float, float]:
    """Spearman's rank correlation, and the 95 % interval of a bootstrap over modules."""
    draw = np.random.default_rng(0)
    picks = draw.integers(len(measured), size=(RESAMPLED, len(measured)))
    low, high = np.nanpercentile([spearman(predicted[pick], measured[pick]) for pick in picks], [2.5, 97.5])
    return spearman(predicted, measured), float(low), float(high)


def ahead(ours: np.ndarray, theirs: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of how much higher our rank correlation is than theirs, over the same resampled modules."""
    picks = np.random.default_rng(0).integers(len(measured), size=(RESAMPLED, len(measured)))
    gaps = [spearman(ours[pick], measured[pick]) - spearman(theirs[pick], measured[pick]) for pick in picks]
    low, high = np.nanpercentile(gaps, [2.5, 97.5])
    return float(low), float(high)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def scatter(axes: Axes, name: str, predicted: np.ndarray, falls: np.ndarray, found: Sequence[float]) -> None:
    """A predictor against what training brought, each module a point with the range of its seeds."""
    mean, spread = falls.mean(1), np.abs(falls - falls.mean(1, keepdims=True)).max(1)
    axes.errorbar(predicted, mean, yerr=spread, fmt="o", ms=4, lw=0.8, color=OURS, ecolor=OTHER)
    axes.set(xscale="log", xlabel=name, ylabel="fall of the held-out loss, trained alone")
    axes.set_title(f"Spearman {found[0]:.2f} ({found[1]:.2f} to {found[2]:.2f})", fontsize=10)


def bars(axes: Axes, found: Mapping[str, Sequence[float]]) -> None:
    """Rank correlations with their intervals."""
    names = list(found)[::-1]
    middle = [found[name][0] for name in names]
    errors = [[found[name][0] - found[name][1] for name in names], [found[name][2] - found[name][0] for name in names]]
    axes.barh(
        names, middle, xerr=errors, color=[OURS if "cross" in n or "split" in n else OTHER for n in names], ecolor=INK
    )
    axes.axvline(0, color=INK, lw=0.8)
    axes.set(xlabel="Spearman with the fall of loss, 95 % interval", xlim=(-0.3, 1))


def equal_budget(folder: Path) -> dict[str, Any]:
    """The falls of `sweep=targets` by placement: learning rate -> seeds, and the parameters that trained."""
    found: dict[str, Any] = {}
    for content, run in runs(folder):
        targets, rank = content["targets"], content["adapter"]["rank"]
        kind = "attention" if targets["include"] == ["self_attn", "cross_attn"] else "all linear"
        kind = "sensitivity" if "report" in targets else kind
        with (run / "modules.csv").open() as stream:
            parameters = sum(int(row["parameters"]) for row in csv.DictReader(stream))
        size = "large" if parameters > 30_000 else "small"
        entry = found.setdefault(f"{kind}, {size}", {"rank": rank, "parameters": parameters, "falls": {}})
        start, gained = fall(run)
        entry["base"] = start
        entry["falls"].setdefault(str(content["optimizer"]["lr"]), []).append(gained)
    return found


def placements(axes: Axes, found: Mapping[str, Any]) -> None:
    """Each placement's better learning rate: the seeds, and their mean."""
    order = [f"{kind}, {size}" for size in ("small", "large") for kind in ("attention", "all linear", "sensitivity")]
    for place, name in enumerate(order):
        falls = max(found[name]["falls"].values(), key=np.mean)
        colour = OURS if name.startswith("sensitivity") else OTHER
        axes.hlines(np.mean(falls), place - 0.3, place + 0.3, color=colour, lw=3)
        axes.plot(place + 0.1 * (np.arange(len(falls)) - 1), falls, "o", color=INK, ms=4)
    labels = [f"{name.split(',')[0]}\n{found[name]['parameters']:,}" for name in order]
    axes.set_xticks(range(len(order)), labels, fontsize=8)
    axes.axvline(2.5, color=OTHER, lw=0.8, ls=":")
    axes.grid(axis="y", lw=0.3)
    axes.set(ylabel="fall of the held-out loss (does not start at 0)", title="the same parameters, placed three ways")


def main(report: Path, single_folder: Path, targets_folder: Path) -> None:
    modules = {module.name: module for module in Report.read(report).modules}
    falls = single(single_folder)
    names = [name for name in modules if name in falls]
    measured = np.array([falls[name] for name in names])
    predicted = {what: np.array([of(modules[name]) for name in names]) for what, of in PREDICTORS.items()}
    found = {what: correlation(values, measured.mean(1)) for what, values in predicted.items()}
    gaps = {what: ahead(predicted[SCORE], values, measured.mean(1)) for what, values in predicted.items()}
    placed = equal_budget(targets_folder)
    figure, (first, second, third) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    scatter(first, SCORE, predicted[SCORE], measured, found[SCORE])
    bars(second, found)
    placements(third, placed)
    figure.savefig(HERE / "sensitivity_study.png", dpi=110)
    figures = {
        "modules": {
            name: {"falls": falls[name], **{what: float(values[place]) for what, values in predicted.items()}}
            for place, name in enumerate(names)
        },
        "spearman": {what: dict(zip(("rho", "low", "high"), values, strict=True)) for what, values in found.items()},
        "score ahead by": gaps,
        "equal_budget": placed,
    }
    write_text(HERE / "sensitivity_study.json", json.dumps(figures, indent=1) + "\n")
    for what, (rho, low, high) in found.items():
        print(f"{what:36s} {rho:6.2f}  {low:6.2f} to {high:5.2f}")
    for name, entry in placed.items():
        print(name, entry["parameters"], {lr: f"{np.mean(values):.4f}" for lr, values in entry["falls"].items()})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
