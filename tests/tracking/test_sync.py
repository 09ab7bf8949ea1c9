"""`acetrain sync`: what was offline is sent once, by W&B's own client to a server of ours; else nothing is lost."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from records import files
from wandb_server import Server

from acetrain.cli import main
from acetrain.tracking import wandb as tracking
from acetrain.tracking.logger import Mode
from acetrain.tracking.tracked import Tracked
from acetrain.training.run_folder import RunFolder

KEY = "a1b2" * 10


def offline(folder: Path, *steps: int) -> str:
    """A part of an offline run with a row for each step; returns the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Tracked(folder, folder.name, "study", "train", {"seed": 1}, ("adapter=lora",))
    logger = tracking.start(run, "project", Mode.offline)
    for step in steps:
        logger.log_metrics({"loss": 1 / step}, step)
    logger.experiment.finish()
    return logger.experiment.id


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Two runs, the first in two parts. Not to be changed: copy it."""
    runs = tmp_path_factory.mktemp("kept") / "runs"
    offline(runs / "a", 1, 2)
    offline(runs / "deeper" / "b", 1)
    offline(runs / "a", 3)
    return runs


@pytest.fixture
def runs(kept, tmp_path, monkeypatch) -> Iterator[Path]:
    shutil.copytree(kept, tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # or a key of whoever runs the tests is found
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    wandb.teardown()
    yield tmp_path / "runs"
    wandb.teardown()


@pytest.fixture
def server(monkeypatch):
    with Server() as running:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running


def test_everything_is_sent_once(runs, server, capsys):
    assert main(["sync"]) == 0
    assert "3 to send, 0 sent before" in capsys.readouterr().out
    first, second = ((runs / name / "wandb_id").read_text() for name in ("a", "deeper/b"))
    assert [row["loss"] for row in server.history[first]] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [row["_step"] for row in server.history[first]] == [1, 2, 3], "in order, a run's parts counting on"
    assert [row["loss"] for row in server.history[second]] == [1]
    told = next(given for given in server.runs if given["name"] == first)
    assert (told["groupName"], told["jobType"], told["tags"]) == ("study", "train", ["adapter=lora"])
    assert any("requirements.txt" in name for name in server.uploaded)
    rows = {run: len(rows) for run, rows in server.history.items()}
    assert main(["sync", "runs"]) == 0
    assert "0 to send, 3 sent before" in capsys.readouterr().out
    assert {run: len(rows) for run, rows in server.history.items()} == rows
    assert not (Path.cwd() / "wandb").exists(), "W&B leaves nothing where it is called"


def test_a_dry_run_lists_and_needs_nothing(runs, capsys):
    assert main(["sync", "runs/a", "runs/deeper", "dry_run=true"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("3 to send") and len(said) == 4 and not list(runs.rglob("*.synced"))
    assert sorted(Path(line).parts[1] for line in said[1:]) == ["a", "a", "deeper"]


def test_without_a_key_it_says_so(runs, capsys):
    assert main(["sync"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sync: needs an API key: set WANDB_API_KEY") and len(error.splitlines()) == 1


def test_a_key_that_can_be_none(runs, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert main(["sync"]) == 2
    assert "API key must have 40+ characters" in capsys.readouterr().err


def test_without_a_network_nothing_is_lost(runs, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert main(["sync"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("sync: W&B cannot be reached (http://127.0.0.1:9: ") and "nothing is lost" in error
    assert len(files(runs)) == 3 and not list(runs.rglob("*.synced"))


def test_a_server_that_takes_no_key(runs, server, capsys):
    server.refuses = True
    assert main(["sync"]) == 1
    error = capsys.readouterr().err
    assert "was not sent: " in error and "401" in error and "0 of 3 were sent" in error
    assert not list(runs.rglob("*.synced"))


def test_a_run_that_is_going_on_is_left_alone(runs, capsys):
    with RunFolder(runs / "a", {}).held():
        assert main(["sync", "dry_run=true"]) == 0
    assert capsys.readouterr().out.startswith("1 to send, 0 sent before, 2 of runs that are running")


def test_folders_must_be_there(runs, capsys):
    assert main(["sync", "nowhere"]) == 2
    assert capsys.readouterr().err.strip() == "paths: must be folders that exist, got 'nowhere'"
