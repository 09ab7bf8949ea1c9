"""What the runs of a sweep came to, and what that says of the settings that it compares."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.special import stdtrit

from acetrain.sweeps.record import Content, Record, varied
from acetrain.sweeps.state import Standing, State, standings
from acetrain.tracking.summary import curve, summarise
from acetrain.tracking.table import read

SEED = "seed"
"""The key whose values are repetitions of one setting."""
CONFIDENCE = 0.95
OBJECTIVES = ("best_val_loss", "final_train_loss")
"""What settings are judged by: the first of these that a finished run has."""
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Result:
    """A run of a sweep."""

    standing: Standing
    folder: Path
    values: Mapping[str, Any]
    """Of the keys that the sweep varies; one that a job was not given is absent."""
    figures: Mapping[str, Any]
    """See `acetrain.tracking.summary.summarise`, and `parameters`."""
    training: Curve
    held_out: Curve
    """The mean held-out loss of the weights that train, from step 0 on, where it is a number."""
    wandb: str
    """Id of its W&B run; empty where it has none."""

    @property
    def run(self) -> str:
        return self.standing.entry.run

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def setting(self) -> str:
        """What its repetitions have in common, as text that can be compared."""
        return json.dumps({key: value for key, value in self.values.items() if key != SEED}, default=str)


@dataclass(frozen=True)
class Setting:
    """The runs that differ by nothing but their seed."""

    values: Mapping[str, Any]
    """Without the seed."""
    runs: tuple[Result, ...]
    losses: tuple[float, ...]
    """Of the finished runs."""
    reached: float = math.nan
    """The lowest loss of any of its runs, finished or not; NaN where none has one."""

    @property
    def mean(self) -> float:
        """NaN where none is finished."""
        return float(np.mean(self.losses)) if self.losses else math.nan

    @property
    def interval(self) -> float:
        """Half of the 95 % confidence interval of the mean, by Student's t; NaN below 2 finished runs."""
        count = len(self.losses)
        if count < 2:
            return math.nan
        quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
        return quantile * float(np.std(self.losses, ddof=1)) / math.sqrt(count)


@dataclass(frozen=True)
class Results:
    """A sweep as far as it is."""

    record: Record
    content: Content
    keys: tuple[str, ...]
    """That it varies, the seed among them where it does."""
    runs: tuple[Result, ...]

    @cached_property
    def objective(self) -> str:
        """The figure that settings are judged by."""
        finished = [run.figures for run in self.runs if run.state is State.finished]
        return next((name for name in OBJECTIVES if any(name in figures for figures in finished)), OBJECTIVES[0])

    @property
    def compared(self) -> list[str]:
        """The keys that settings differ in."""
        return [key for key in self.keys if key != SEED]

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings, the best first; those without a finished run come last, by how low they came."""
        groups: dict[str, list[Result]] = {}
        for run in self.runs:
            groups.setdefault(run.setting, []).append(run)
        found = [self._setting(runs) for runs in groups.values()]
        return sorted(found, key=_rank)

    def _setting(self, runs: Sequence[Result]) -> Setting:
        values = {key: value for key, value in runs[0].values.items() if key != SEED}
        losses = [run.figures.get(self.objective, math.nan) for run in runs if run.state is State.finished]
        reached = min((run.figures[self.objective] for run in runs if self.objective in run.figures), default=math.nan)
        return Setting(values, tuple(runs), tuple(loss for loss in losses if math.isfinite(loss)), reached)

    @property
    def best(self) -> Result | None:
        """The finished run with the lowest loss of the best setting."""
        if not self.settings or not self.settings[0].losses:
            return None
        finished = [run for run in self.settings[0].runs if math.isfinite(run.figures.get(self.objective, math.nan))]
        return min((run for run in finished if run.state is State.finished), key=lambda r: r.figures[self.objective])


def _rank(setting: Setting) -> tuple[bool, float]:
    loss = setting.mean if setting.losses else setting.reached
    return (not setting.losses, loss if math.isfinite(loss) else math.inf)


def collect(record: Record) -> Results:
    """The results of a sweep, from the folders of its runs. Raises Refused where there is no such sweep."""
    content = record.read()
    keys = tuple(varied(content.entries))
    return Results(
        record, content, keys, tuple(_result(record, keys, one) for one in standings(record, content.entries))
    )


def _result(record: Record, keys: Sequence[str], one: Standing) -> Result:
    folder = record.folder(one.entry.run)
    rows = read(folder / "metrics.csv")
    figures = summarise(rows, _devices(folder)) | _parameters(folder)
    values = {key: one.entry.given[key] for key in keys if key in one.entry.given}
    training = [(step, loss) for step, loss in curve(rows, "loss") if math.isfinite(loss)]
    identified = folder / "wandb_id"
    wandb = identified.read_text() if identified.is_file() else ""
    return Result(one, folder, values, figures, training, _held_out(folder), wandb)


def _held_out(folder: Path) -> Curve:
    losses: dict[int, list[float]] = {}
    for row in read(folder / "validation.csv"):
        losses.setdefault(int(row["step"]), []).append(float(row["loss"]))
    means = [(step, float(np.mean(found))) for step, found in sorted(losses.items())]
    return [(step, loss) for step, loss in means if math.isfinite(loss)]


def _devices(folder: Path) -> int:
    file = folder / "config.yaml"
    trainer = yaml.safe_load(file.read_text(encoding="utf-8")).get("trainer", {}) if file.is_file() else {}
    return trainer.get("devices", 1) * trainer.get("nodes", 1)


def _parameters(folder: Path) -> dict[str, int]:
    file = folder / "modules.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as text:
        return {"parameters": sum(int(row["parameters"]) for row in csv.DictReader(text))}
