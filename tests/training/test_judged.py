"""A run that is a trial: judged after each validation but the last, and ended where it is told to."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import runs
from safetensors.torch import load_file

from acetrain.composition.job import Composer
from acetrain.composition.overrides import Typed
from acetrain.composition.sources import Sources
from acetrain.jobs.train import Train
from acetrain.training.run_folder import newest_step

Asked = list[tuple[int, dict[str, float]]]


@pytest.fixture
def train(tmp_path, tiny_cache) -> Callable[[str, Callable[[int], bool]], tuple[Path, Train, Asked]]:
    """Trains a run of 8 steps, validated every 2, that a judge is asked about."""

    def run(name: str, ends: Callable[[int], bool]) -> tuple[Path, Train, Asked]:
        changes = [*runs.QUICK, "trainer.validate_every=2", "data.validation=0.25", "max_steps=8", "schedule.warmup=0"]
        changes += [f"cache={tiny_cache}", f"out_dir={tmp_path / name}"]
        job = Composer("train", Sources.of(Path.cwd())).compose([Typed(*c.split("=", 1)) for c in changes]).build()
        asked: Asked = []

        def judge(step: int, losses: Mapping[str, float]) -> bool:
            asked.append((step, dict(losses)))
            return ends(step)

        vars(job)["judge"] = judge
        job.run()
        return tmp_path / name, job, asked

    return run


def test_a_run_is_judged_by_what_its_table_says_after_each_validation_but_the_last(train):
    folder, job, asked = train("whole", lambda step: False)
    with (folder / "metrics.csv").open() as file:
        rows = [(int(row["step"]), row["val_loss"]) for row in csv.DictReader(file) if row["val_loss"]]
    assert [(step, f"{losses['val_loss']:.8g}") for step, losses in asked] == rows[:-1]
    assert [step for step, _ in rows] == [2, 4, 6, 8]
    assert not job.pruned


def test_a_run_ends_after_the_step_it_is_told_to_with_checkpoint_and_best_adapter(train, capsys):
    folder, job, asked = train("pruned", lambda step: step == 4)
    assert job.pruned and [step for step, _ in asked] == [2, 4]
    assert newest_step(folder) == 4 and len(runs.metrics(folder)) == 4
    assert load_file(folder / "best" / "adapter_model.safetensors") and not (folder / "adapter").exists()
    assert f"ended early at step 4: {folder}" in capsys.readouterr().out


def test_a_run_that_was_ended_early_can_be_taken_to_its_end_and_is_as_if_it_never_was(train):
    train("pruned", lambda step: step == 4)
    folder, job, asked = train("pruned", lambda step: False)
    whole, *_ = train("whole", lambda step: False)
    assert not job.pruned and [step for step, _ in asked] == [6]
    assert runs.metrics(folder) == runs.metrics(whole)
    mine, other = runs.adapter(folder), runs.adapter(whole)
    assert all(mine[name].equal(other[name]) for name in other)
