"""What a run writes, what it does with steps that are not finite, and what it refuses."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import adapter, metrics, train
from safetensors import safe_open

from acetrain.acestep.model import EMBEDDED

WANDB = ["logger=wandb", "logger.mode=offline"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


@pytest.fixture(scope="module")
def run(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    done = train(songs, folder, "max_steps=10", *WANDB)
    assert done.returncode == 0, done.stderr
    return folder


def held_out(run: Path) -> dict[int, dict[tuple[str, str], float]]:
    losses: dict[int, dict[tuple[str, str], float]] = {}
    with (run / "validation.csv").open() as file:
        for row in csv.DictReader(file):
            losses.setdefault(int(row["step"]), {})[row["song"], row["quantile"]] = float(row["loss"])
    return losses


def test_a_run_leaves_what_it_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"adapter", "best", "config.yaml", "identity.json", "metrics.csv", "validation.csv", "loss.png"} <= names
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (run / "adapter").glob("*.safetensors")] == ["adapter_model.safetensors"]
    with safe_open(run / "adapter" / "adapter_model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["base"] == "tiny" and metadata["step"] == "10"
    assert json.loads(metadata["choices"])["optimizer"] == "adamw"
    assert metadata["config"] == (run / "config.yaml").read_text()


def test_the_configuration_repeats_the_run(songs: Path, run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = train(songs, again, f"experiment={run / 'config.yaml'}", *WANDB)
    assert done.returncode == 0, done.stderr
    assert metrics(again) == metrics(run)


def test_metrics_hold_every_step_and_the_bins_at_validations(run: Path) -> None:
    rows = metrics(run)
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 11)]
    validated = [row for row in rows if row["val_loss"]]
    assert [row["step"] for row in validated] == ["5", "10"]
    bins = [key for key in rows[0] if key.startswith("val_t")]
    assert len(bins) == 3
    for row in validated:
        mean = sum(float(row[key]) for key in bins) / 3
        assert mean == pytest.approx(float(row["val_loss"]), rel=1e-5)
        losses = held_out(run)[int(row["step"])]
        assert sum(losses.values()) / len(losses) == pytest.approx(mean, rel=1e-5)


def test_validation_has_a_start_and_one_grid(run: Path) -> None:
    losses = held_out(run)
    assert sorted(losses) == [0, 5, 10]
    assert losses[0].keys() == losses[10].keys() and len(losses[0]) == 3
    assert losses[0] != losses[10]


def test_a_second_seed_is_judged_on_the_same_grid(songs: Path, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert train(songs, other, "max_steps=1", "seed=1").returncode == 0
    assert held_out(other)[0] == held_out(run)[0]


def test_wandb_is_kept_offline(run: Path) -> None:
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert re.fullmatch(r"[0-9a-f]{8}", (run / "wandb_id").read_text())


def test_few_songs_are_all_trained_on_and_it_says_so(tmp_path: Path) -> None:
    done = train(cache(tmp_path / "cache", songs=4), tmp_path / "run", "max_steps=2")
    assert done.returncode == 0 and "none held out" in done.stdout
    assert held_out(tmp_path / "run") == {} and not (tmp_path / "run" / "best").exists()


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=4, loudness={2: 1e30})
    run = tmp_path / "run"
    done = train(songs, run, "max_steps=8", "songs_per_step=1", "condition_dropout=0")
    assert done.returncode == 0, done.stderr
    skipped = [row for row in metrics(run) if row["skipped"] == "1"]
    assert len(skipped) == 2 and len(metrics(run)) == 8
    said = re.findall(r"step (\d+) skipped: .* with song2.wav \(t=0\.\d+", done.stdout)
    assert said == [row["step"] for row in skipped]
    assert all(tensor.isfinite().all() for tensor in adapter(run).values())


def test_too_many_bad_steps_end_the_run_with_its_last_checkpoint(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=2, loudness={0: 1e30, 1: 1e30})
    run = tmp_path / "run"
    done = train(songs, run, "max_steps=20", "trainer.max_bad_steps=4", "trainer.checkpoint_every=1")
    assert done.returncode == 1 and "4 steps in a row" in done.stderr and len(done.stderr.strip().splitlines()) <= 4
    assert list(run.glob("step-*.ckpt"))


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_recomputing_activations_changes_nothing(songs: Path, tmp_path: Path, precision: str) -> None:
    for name, recompute in (("with", "selective"), ("without", "none")):
        arguments = [f"precision={precision}", f"trainer.gradient_checkpointing={recompute}", "max_steps=3"]
        assert train(songs, tmp_path / name, *arguments).returncode == 0
    assert metrics(tmp_path / "with") == metrics(tmp_path / "without")


def test_the_frame_budget_changes_no_result(songs: Path, tmp_path: Path) -> None:
    for frames in (1, 450):
        assert train(songs, tmp_path / str(frames), f"data.max_frames={frames}", "max_steps=6").returncode == 0
    ours, theirs = (
        torch.cat([tensor.flatten() for name, tensor in adapter(tmp_path / run).items() if "lora_B" in name])
        for run in ("1", "450")
    )
    assert (ours - theirs).norm() < 2e-5 * theirs.norm()  # B starts at zero: its norm is how far training went


def test_songs_encoded_with_another_template_are_refused(tmp_path: Path) -> None:
    done = train(cache(tmp_path / "cache", songs=2, template="0" * 64), tmp_path / "run", "max_steps=2")
    assert done.returncode == 2 and "prompt template" in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_song_that_cannot_be_read_ends_the_run_by_name(tmp_path: Path, workers: int) -> None:
    songs = cache(tmp_path / "cache", songs=4, loudness={1: float("nan")})
    done = train(songs, tmp_path / "run", "max_steps=20", f"data.workers={workers}", timeout=120)
    assert done.returncode == 1 and "song1.wav" in done.stderr and "Traceback" not in done.stderr


def test_a_run_killed_before_its_adapter_was_written_gets_it(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(songs, run, "max_steps=3").returncode == 0
    whole = adapter(run)
    (run / "adapter" / "adapter_model.safetensors").unlink()
    done = train(songs, run, "max_steps=3")
    assert done.returncode == 0 and "nothing left to do" in done.stdout
    assert all(adapter(run)[name].equal(tensor) for name, tensor in whole.items())


def test_a_folder_that_was_claimed_halfway_is_claimed_again_and_cleared(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".partial-abc-identity.json").write_text("{")
    assert train(songs, run, "max_steps=2").returncode == 0
    assert not list(run.rglob(".partial-*"))


def test_other_weights_are_another_run(songs: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    assert train(songs, run, "max_steps=2").returncode == 0
    shutil.copytree(EMBEDDED, other)
    file = other / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = train(songs, run, "max_steps=4", f"model.path={other}")
    assert done.returncode == 2 and "model (" in done.stderr


def test_an_extended_cosine_goes_on_from_its_last_step(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for steps in (4, 8):
        arguments = ["schedule=cosine", "schedule.warmup=0", "schedule.floor=0", f"max_steps={steps}"]
        assert train(songs, run, *arguments).returncode == 0
    rates = [float(row["lr"]) for row in metrics(run)]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule=cosine", "schedule.warmup=5"], "schedule.warmup: must be below the 5 steps of the run, got 5"),
        (["trainer.accelerator=gpu"], "gpu was asked for"),
        (["logger=wandb", "logger.mode=online"], "logger.mode: online needs an API key"),
        (["targets.include=[q_prj]", "cache=nowhere"], "'q_prj' matches no module"),
    ],
)
def test_what_cannot_run_is_refused_and_leaves_nothing(
    songs: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    done = train(songs, tmp_path / "run", "max_steps=5", *overrides)
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "run").exists()


def test_runs_are_judged_alike_whatever_they_train_with(songs: Path, tmp_path: Path) -> None:
    recipes = {
        "plain": [],
        "other": ["timesteps=uniform", "timesteps.low=0.2", "loss=huber", "weighting=min_snr"],
    }
    before = {}
    for name, changes in recipes.items():
        done = train(songs, tmp_path / name, "max_steps=1", "seed=3", *changes, *WANDB)
        assert done.returncode == 0, done.stderr
        with (tmp_path / name / "validation.csv").open() as file:
            before[name] = [row for row in csv.reader(file) if row[0] in ("step", "0")]
    assert len(before["plain"]) > 3
    assert before["plain"] == before["other"]
