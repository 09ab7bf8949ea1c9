"""Recipes whose steps know more than their songs: adaptive and stratified times, losses by frame and by time."""

from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import Done, adapter, metrics, train, train_from_the_shell

pytestmark = pytest.mark.slow

RECIPE = [
    "timesteps=adaptive",
    "timesteps.bins=6",
    "timesteps.stratified=true",
    "timesteps.shift=1.5",
    "timesteps.low=0.05",
    "loss=huber",
    "loss.reduction=frame",
    "weighting=min_snr",
]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


@pytest.fixture(scope="module")
def undisturbed(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert finished(train(songs, run, *RECIPE, "max_steps=8"))
    return run


def finished(done: Done) -> bool:
    assert done.returncode == 0, done.stderr
    return True


def assert_alike(run: Path, other: Path) -> None:
    for ours, theirs in zip(metrics(run), metrics(other), strict=True):
        for key in ("loss", "grad_norm", "songs", "frames"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-4)


def test_it_resumes_to_the_bit(songs: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert finished(train(songs, run, *RECIPE, "max_steps=5"))
    assert finished(train(songs, run, *RECIPE, "max_steps=8", "data.workers=1"))
    ours, theirs = adapter(run), adapter(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["loss"] for row in metrics(run)] == [row["loss"] for row in metrics(undisturbed)]
    newest = (torch.load(max(folder.glob("step-*.ckpt")), weights_only=True) for folder in (run, undisturbed))
    mine, before = (checkpoint["running"] for checkpoint in newest)
    assert torch.equal(mine, before) and (mine[1] > 0).sum() > 2


def test_it_does_not_depend_on_the_frame_budget(songs: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert finished(train(songs, run, *RECIPE, "max_steps=8", "data.max_frames=1"))
    assert_alike(run, undisturbed)


@pytest.mark.slow
def test_it_does_not_depend_on_the_ranks(songs: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert finished(train_from_the_shell(songs, run, *RECIPE, "max_steps=8", "trainer.devices=2"))
    assert_alike(run, undisturbed)


def test_it_differs_from_the_plain_recipe(songs: Path, undisturbed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "run"
    without = [override for override in RECIPE if not override.startswith("timesteps")]
    assert finished(train(songs, plain, *without, "max_steps=8"))
    assert metrics(plain)[0]["loss"] != metrics(undisturbed)[0]["loss"]
    assert metrics(plain)[-1]["val_loss"] != metrics(undisturbed)[-1]["val_loss"]
