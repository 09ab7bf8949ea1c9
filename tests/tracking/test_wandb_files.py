"""What an offline W&B file says of a run, read back by W&B's own reader."""

import csv
from pathlib import Path

import fabricate
import pytest
from records import files, records, summary

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.jobs.train import Train

RUN = [
    "cache=cache",
    "trainer=cpu",
    "trainer.validate_every=2",
    "trainer.checkpoint_every=2",
    "data.workers=0",
    "logger=wandb",
    "logger.mode=offline",
    "adapter=rslora",
    "adapter.rank=2",
    "targets=mlp",
    "samples=prompts",
    "samples.prompts=[{caption: a slow waltz, duration: 1}]",
    "samples.every=4",
]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    """A run of a sweep that was stopped at its third step and went on to its fifth."""
    folder = tmp_path_factory.mktemp("tracked")
    fabricate.cache(folder / "cache", songs=6)
    for steps in (3, 5):
        job = built(folder, f"max_steps={steps}")
        vars(job)["sweep"] = "small_study"
        job.check()
        job.run()
    return folder / "run"


def built(folder: Path, *changes: str) -> Train:
    given = [read(change) for change in (*RUN, *changes, f"cache={folder / 'cache'}", f"out_dir={folder / 'run'}")]
    return Composer("train", Sources((PACKAGED,))).compose(given).build()


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_says_what_it_is(tracked):
    first, second = (records(file, "run") for file in files(tracked))
    [run] = first
    assert run["run_group"] == "small_study" and run["job_type"] == "train" and run["project"] == "acetrain"
    assert run["display_name"].startswith("train-")
    assert set(run["tags"]) == {"model=tiny", "adapter=rslora", "targets=mlp", "optimizer=adamw", "timesteps=acestep"}
    assert second[0]["run_id"] == run["run_id"] == (tracked / "wandb_id").read_text(), "one run, however often resumed"


def test_its_whole_configuration_is_there(tracked):
    [run] = records(files(tracked)[0], "run")
    told = run["config"]["update"]
    assert told["adapter"]["rank"] == 2 and told["optimizer"]["lr"] == 1e-4 and told["max_steps"] == 3
    assert told["choices"]["adapter"] == "rslora" and told["choices"]["schedule"] == "constant"
    assert set(told) >= {"seed", "data", "trainer", "precision", "loss", "weighting", "code", "device", "trained"}
    assert told["trained"]["parameters"] > 0 and told["device"] == {"name": "cpu", "count": 1}


def test_its_figures_are_those_of_its_table(tracked):
    wanted = {int(row["step"]): row for row in table(tracked)}
    seen = {}
    for file in files(tracked):
        for record in records(file, "history"):
            seen.setdefault(int(record["step"].get("num", 0)), {}).update(record["item"])
    assert set(seen) - {0} == set(wanted) == {1, 2, 3, 4, 5}
    for step, row in wanted.items():
        told = {key: value for key, value in row.items() if value and key != "step"}
        assert {key: seen[step][key] for key in told} == pytest.approx({k: float(v) for k, v in told.items()}, rel=1e-6)


def test_it_ends_in_a_summary(tracked):
    rows, last = table(tracked), summary(files(tracked)[-1])
    losses = {int(row["step"]): float(row["val_loss"]) for row in rows if row["val_loss"]}
    best = min(losses, key=lambda step: losses[step])
    assert (last["best_val_step"], last["last_val_step"], last["steps"]) == (best, 5, 5)
    assert last["best_val_loss"] == pytest.approx(losses[best], rel=1e-6)
    assert last["last_val_loss"] == pytest.approx(losses[5], rel=1e-6)
    assert last["final_train_loss"] == pytest.approx(float(rows[-1]["loss"]), rel=1e-6)
    seconds = sum(float(row["seconds"]) for row in rows)
    assert last["train_seconds"] == pytest.approx(seconds, rel=1e-5)
    assert last["device_hours"] == pytest.approx(seconds / 3600, rel=1e-5)
    assert last["mean_frames_per_s"] == pytest.approx(sum(float(row["frames"]) for row in rows) / seconds, rel=1e-5)
    assert last["parameters"] > 0 and last["most_memory_mb"] > 0 and last["mean_songs_per_s"] > 0


def test_plot_and_music_are_there(tracked):
    [plot, *_] = tracked.glob("wandb/offline-run-*/files/media/images/plot_*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    pieces = sorted(file.name for file in tracked.glob("wandb/offline-run-*/files/media/audio/**/*.wav"))
    assert [name.split("_")[0] for name in pieces] == ["adapter", "adapter", "adapter", "base"]
    told = [name for file in files(tracked) for item in records(file, "history") for name in item["item"]]
    assert any(name.endswith("/adapter.audio") for name in told) and "plot.path" in told


def test_a_sensitivity_is_a_job_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=4)
    quick = ["cache=cache", "out_dir=run", "logger=wandb", "logger.mode=offline", "targets=mlp", "rank_max=2"]
    assert main(["sensitivity", *quick, "sketch=8", "bins=1", "songs=2", "accelerator=cpu"]) == 0
    [run] = records(files(tmp_path / "run")[0], "run")
    assert run["job_type"] == "sensitivity" and run["run_group"] == "sensitivity"
    assert summary(files(tmp_path / "run")[0])["modules"] == 12
