"""Draw the figure of `docs/pruning.md` from pruned adapters, and write what it shows to a JSON file.

python docs/figures/pruning_study.py NAME=UNIFORM,GLOBAL ...

UNIFORM and GLOBAL are what `acetrain prune` wrote for the adapter NAME with `allocate=uniform` and with
`allocate=global`; `sweeps/to_prune.yaml` says how the adapters are made.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from acetrain.atomic import write_text

HERE = Path(__file__).parent
COLOURS = {"weights": "#9aa5b1", "activations": "#c8553d", "loss": "#2f6f9f"}
LINES = {"uniform": "-", "global": "--"}
INK = "#24303c"


def report(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "prune.json").read_text())


def pareto(axes: Axes, name: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Change of the held-out loss against parameters: every method, each module by itself and together."""
    for allocation, one in found.items():
        for method, colour in COLOURS.items():
            points = [point for point in one["total"]["curve"] if point["method"] == method]
            axes.plot(
                [point["parameters"] for point in points],
                [point["change"] for point in points],
                LINES[allocation],
                marker="o",
                ms=3.5,
                color=colour,
                label=f"{method}, {allocation}",
            )
    axes.axhline(0, color=INK, lw=0.8)
    judged = found["uniform"]["total"]["loss"]["held_out"]
    axes.axhline(judged["base"] - judged["whole"], color=INK, lw=0.8, ls=":")
    axes.text(
        0.98,
        judged["base"] - judged["whole"],
        "no adapter ",
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="bottom",
    )
    axes.set(xscale="log", title=name, xlabel="parameters", ylabel="change of the held-out loss")
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_ylim(-4e-4, 0.5)
    axes.xaxis.set_minor_formatter("")


def agreement(axes: Axes, found: Sequence[tuple[float, float]]) -> None:
    """Predicted against measured change, over all sizes."""
    predicted, measured = np.array(found).T
    axes.plot(predicted, measured, "o", ms=4, color=COLOURS["loss"])
    ends = [min(predicted.min(), measured.min()), max(predicted.max(), measured.max())]
    axes.plot(ends, ends, color=INK, lw=0.8)
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set(xlabel="predicted change of loss", ylabel="measured", title="prediction, method=loss")


def pairs(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Predicted and measured changes of the sizes of `method=loss`, but for the whole adapter."""
    points = [point for one in found.values() for point in one["total"]["curve"] if point["method"] == "loss"]
    return [(point["predicted"], point["change"]) for point in points if point["change"] or point["predicted"]]


def alone(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each module truncated alone: its rank, and the predicted and measured change; none where it was not measured."""
    return [
        {
            "module": module["module"],
            "rank": module["rank"],
            "predicted": sum(module["predicted"]["held_out"].values()),
            "measured": module["measured"],
        }
        for module in one["modules"]
        if module["measured"] is not None
    ]


def main(given: Sequence[str]) -> None:
    adapters: dict[str, dict[str, Any]] = {}
    for argument in given:
        name, _, folders = argument.partition("=")
        adapters[name] = dict(zip(LINES, map(report, folders.split(",")), strict=True))
    figure, panels = plt.subplots(1, len(adapters) + 1, figsize=(4.6 * (len(adapters) + 1), 4.4), layout="constrained")
    for axes, (name, found) in zip(panels, adapters.items(), strict=False):
        pareto(axes, name, found)
    panels[0].legend(fontsize=7, loc="lower left")
    together = [pair for found in adapters.values() for pair in pairs(found)]
    agreement(panels[-1], together)
    figure.savefig(HERE / "pruning_study.png", dpi=110)
    kept = {
        name: {
            allocation: {key: one["total"][key] for key in ("parameters_before", "loss", "curve")}
            | {"next_rank": one["next_rank"], "modules": alone(one)}
            for allocation, one in found.items()
        }
        for name, found in adapters.items()
    }
    write_text(HERE / "pruning_study.json", json.dumps(kept, indent=1) + "\n")
    for name, found in adapters.items():
        for allocation, one in found.items():
            for point in one["total"]["curve"]:
                row = f"{point['parameters']:9,d} {point['predicted']:+10.5f} {point['change']:+10.5f}"
                print(f"{name:22s} {allocation:8s} {point['method']:12s} {row}")


if __name__ == "__main__":
    main(sys.argv[1:])
