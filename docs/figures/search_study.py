"""What ending weak runs early saves: the same searches with and without it, drawn for `docs/search.md`.

python docs/figures/search_study.py CACHE RUNS

`sweeps/optuna_tiny.yaml` says how CACHE is made. Searches that RUNS holds already are not made again.
"""

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from acetrain.atomic import write_text
from acetrain.cli import main
from acetrain.sweeps.judge import curve
from acetrain.sweeps.record import Record, varied
from acetrain.sweeps.search import Metric
from acetrain.tracking.table import read

HERE = Path(__file__).parent
SWEEP = "optuna_tiny"
SEEDS = 3
KINDS = {"none": "every run to its end", "asha": "weak runs ended early"}
INK, OURS, OTHER = "#24303c", "#2f6f9f", "#9aa5b1"
COLOURS = {"none": OTHER, "asha": OURS}

Curve = list[tuple[int, float]]


@dataclass
class Run:
    """A trial's run."""

    values: dict[str, object]
    base: float
    """Held-out loss before the first step."""
    losses: Curve
    """Held-out loss by step."""

    @property
    def steps(self) -> int:
        return self.losses[-1][0]

    @property
    def best(self) -> float:
        return min(loss for _, loss in self.losses)


def search(cache: str, folder: Path, kind: str, seed: int) -> list[Run]:
    """The runs of one search, in the order of its trials, each trained once."""
    asked = [f"search.seed={seed}", f"search.pruner.kind={kind}"]
    if main(["train", f"cache={cache}", f"out_dir={folder}", f"sweep={SWEEP}", *asked]):
        raise SystemExit(f"the search in {folder} is not done")
    record = Record.of(folder, SWEEP)
    entries = record.entries()
    keys = varied(entries)
    return [
        Run(
            {key: entry.given[key] for key in keys},
            base(record.folder(entry.run)),
            curve(record.folder(entry.run), Metric.val_loss),
        )
        for entry in entries
    ]


def base(run: Path) -> float:
    """The held-out loss before the first step."""
    return statistics.mean(float(row["loss"]) for row in read(run / "validation.csv") if row["step"] == "0")


def progress(runs: list[Run]) -> Curve:
    """The best held-out loss so far by the steps trained so far."""
    found: Curve = []
    steps, best = 0, float("inf")
    for run in runs:
        before = steps
        for step, loss in run.losses:
            best = min(best, loss)
            found.append((before + step, best))
        steps = before + run.steps
    return found


def race(axes: Axes, searches: dict[str, list[list[Run]]]) -> None:
    """Best loss so far over work, a line a search."""
    for kind, found in searches.items():
        for number, runs in enumerate(found):
            steps, losses = zip(*progress(runs), strict=True)
            label = KINDS[kind] if number == 0 else None
            axes.step(steps, losses, where="post", color=COLOURS[kind], lw=1.4, label=label)
            axes.plot(steps[-1], losses[-1], "o", color=COLOURS[kind], ms=5)
    axes.set(
        xlabel="steps trained by the search",
        ylabel="best held-out loss so far",
        title="three searches, each made twice",
    )
    axes.legend(frameon=False)


def curves(axes: Axes, runs: list[Run], whole: int) -> None:
    """The held-out loss of each run of one search; those ended early stop."""
    for run in sorted(runs, key=lambda one: one.steps):
        steps, losses = zip(*run.losses, strict=True)
        colour = OURS if run.steps == whole else OTHER
        axes.plot(steps, losses, color=colour, lw=1.2)
        axes.plot(steps[-1], losses[-1], "o", color=colour, ms=4)
    low = min(run.best for run in runs)
    first = statistics.median(run.losses[0][1] for run in runs)
    axes.set(ylim=(low - 0.01, first + 0.04), xlabel="step", ylabel="held-out loss")
    axes.set_title("the runs of one of them; those ended early in grey")


def figures(searches: dict[str, list[list[Run]]]) -> dict[str, object]:
    """Work and outcome of each search, and what ending runs early made of them."""
    rows = {
        kind: [
            {
                "seed": seed,
                "runs": len(runs),
                "ended_early": sum(run.steps < max(one.steps for one in runs) for run in runs),
                "steps": sum(run.steps for run in runs),
                "base": runs[0].base,
                "best": min(run.best for run in runs),
                "values_of_the_best": min(runs, key=lambda run: run.best).values,
            }
            for seed, runs in enumerate(found)
        ]
        for kind, found in searches.items()
    }
    pairs = list(zip(rows["none"], rows["asha"], strict=True))
    return {
        "steps_of_asha_over_none": [early["steps"] / whole["steps"] for whole, early in pairs],
        "best_of_asha_minus_none": [early["best"] - whole["best"] for whole, early in pairs],
        "searches": rows,
        "runs": {kind: [[asdict(run) for run in runs] for runs in found] for kind, found in searches.items()},
    }


def study(cache: str, folder: Path) -> None:
    searches = {kind: [search(cache, folder / f"{kind}-{seed}", kind, seed) for seed in range(SEEDS)] for kind in KINDS}
    whole = max(run.steps for run in searches["none"][0])
    figure, (first, second) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    race(first, searches)
    curves(second, searches["asha"][0], whole)
    figure.savefig(HERE / "search_study.png", dpi=110)
    found = figures(searches)
    write_text(HERE / "search_study.json", json.dumps(found, indent=1, default=str) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "runs"}, indent=1, default=str))


if __name__ == "__main__":
    study(sys.argv[1], Path(sys.argv[2]))
