"""Two ranks train as one does, and resume as one does."""

from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import adapter, metrics, train, train_from_the_shell


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


def test_two_ranks_take_the_steps_of_one_and_resume_exactly(songs: Path, tmp_path: Path) -> None:
    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    assert train(songs, one, "max_steps=6").returncode == 0
    done = train_from_the_shell(songs, two, "max_steps=6", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(metrics(two), metrics(one), strict=True):
        for key in ("loss", "grad_norm"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-5)
        assert ours["songs"] == theirs["songs"] and ours["frames"] == theirs["frames"]
    assert train_from_the_shell(songs, resumed, "max_steps=3", "trainer.devices=2").returncode == 0
    assert train_from_the_shell(songs, resumed, "max_steps=6", "data.workers=1", "trainer.devices=2").returncode == 0
    ours, theirs = adapter(resumed), adapter(two)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
