"""Runs that train side by side in a process have trackers of their own."""

from pathlib import Path
from typing import Any

import pytest
from fabricate import cache
from records import files, records
from runs import QUICK, metrics

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.training.packed.run import train_together
from acetrain.training.shared_base import SharedBase

TRACKED = ["logger=wandb_tensorboard", "logger.mode=auto", "max_steps=2"]


def test_each_lane_has_a_tracker_of_its_own(tmp_path: Path) -> None:
    songs, runs = cache(tmp_path / "cache", songs=5), []
    for seed in (0, 1):
        given = [*QUICK, *TRACKED, f"cache={songs}", f"out_dir={tmp_path / str(seed)}", f"seed={seed}"]
        run: Any = Composer("train", Sources((PACKAGED,))).compose(list(map(read, given))).build()
        run.check()
        runs.append(run)
    assert train_together(runs, SharedBase()) == [None, None]
    losses = []
    for run in runs:
        [file] = files(run.folder.path)
        assert (run.folder.path / "wandb_id").read_text() in file.name
        rows = [record["item"] for record in records(file, "history")]
        losses.append([float(row["loss"]) for row in rows if "loss" in row])
        assert losses[-1] == pytest.approx([float(row["loss"]) for row in metrics(run.folder.path)])
        assert list(run.folder.path.glob("tensorboard/events*"))
    assert losses[0] != losses[1]
