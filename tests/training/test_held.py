"""One process trains in a run's folder at a time; a dead one holds nothing."""

import multiprocessing
import time
from pathlib import Path

import pytest

from acetrain.training import run_folder
from acetrain.training.run_folder import RunFolder, holder

FORKS = multiprocessing.get_context("fork")


def hold(path: Path, seconds: float) -> None:
    with RunFolder(path, {}).held():
        (path / "in").touch()
        time.sleep(seconds)


@pytest.fixture
def other(tmp_path):
    """Another process that holds `run` for a minute."""
    process = FORKS.Process(target=hold, args=(tmp_path / "run", 60))
    process.start()
    while not (tmp_path / "run" / "in").exists():
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_a_held_folder_tells_its_holder_until_it_dies(tmp_path, other):
    assert holder(tmp_path / "run").startswith(f"process {other.pid} of ")
    other.kill()
    other.join()
    assert holder(tmp_path / "run") == ""


def test_a_second_process_waits_for_the_first(tmp_path, other, monkeypatch, capsys):
    seen = []

    def rest(seconds: float) -> None:
        seen.append(other.is_alive())
        other.kill()
        other.join()

    monkeypatch.setattr(run_folder.time, "sleep", rest)
    with RunFolder(tmp_path / "run", {}).held():
        assert holder(tmp_path / "run") != ""
    assert seen == [True]
    assert f"waiting: {tmp_path / 'run'} is being trained by process {other.pid}" in capsys.readouterr().out


def test_a_folder_that_was_held_and_never_used_is_still_new(tmp_path):
    folder = RunFolder(tmp_path / "run", {"seed": 1})
    with folder.held():
        pass
    folder.check(may_resume=False)
    assert holder(tmp_path / "run") == "" == holder(tmp_path / "none")
