"""W&B where it cannot be reached: no hang, no prompt, and nothing silent."""

from pathlib import Path

import numpy as np
import pytest
import wandb
from matplotlib import image
from records import files, records
from wandb_server import Server

from acetrain.errors import Failed
from acetrain.tracking import wandb as tracking
from acetrain.tracking.logger import Ended, Mode
from acetrain.tracking.tracked import Tracked


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and a server that does not answer."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "PATIENCE", 3.0)
    wandb.teardown()


def started(folder: Path, mode: Mode) -> tracking.Stepped:
    run = Tracked(folder, "name", "group", "train", {"seed": 0}, ("adapter=lora",))
    return tracking.start(run, "project", mode)


def test_auto_goes_on_offline_and_says_so(tmp_path, unreachable, capfd):
    logger = started(tmp_path, Mode.auto)
    logger.log_metrics({"loss": 1.0}, step=1)
    image.imsave(tmp_path / "loss.png", np.zeros((2, 2, 3)))
    tracking.finish(logger, Ended(tmp_path / "loss.png", [1, 2, 3], 1))
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert "W&B cannot be reached (" in capfd.readouterr().err


def test_a_key_that_can_be_none_keeps_a_run_offline(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wandb.teardown()
    logger = started(tmp_path, Mode.auto)
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.experiment.finish()
    wandb.teardown()
    assert "API key must have 40+ characters" in capfd.readouterr().err
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_runs_side_by_side_are_runs_of_their_own(tmp_path, unreachable, capfd):
    loggers = [started(folder, Mode.auto) for name in "ab" if not (folder := tmp_path / name).mkdir()]
    for step in (1, 2):
        for place, logger in enumerate(loggers):
            logger.log_metrics({"loss": 10 * place + step}, step)
    for logger in loggers:
        logger.experiment.finish()
    told = [[row["item"]["loss"] for row in records(file, "history")] for file in files(tmp_path)]
    assert sorted(told) == [[1, 2], [11, 12]]


def test_a_server_that_takes_no_key_leaves_a_run_offline(tmp_path, monkeypatch, capfd):
    with Server(refuses=True) as server:
        monkeypatch.setenv("WANDB_API_KEY", "a1b2" * 10)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()
        started(tmp_path, Mode.auto).experiment.finish()
        wandb.teardown()
    assert "W&B cannot be reached (" in capfd.readouterr().err
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_online_fails(tmp_path, unreachable):
    with pytest.raises(Failed, match=r"logger.mode: online, and W&B cannot be reached \("):
        started(tmp_path, Mode.online)


def test_a_run_started_again_is_the_same_run(tmp_path):
    ids = []
    for _ in range(2):
        logger = started(tmp_path, Mode.offline)
        ids.append(logger.experiment.id)
        logger.experiment.finish()
    assert ids[0] == ids[1] == (tmp_path / "wandb_id").read_text()


def test_a_run_that_was_killed_goes_on_where_its_steps_are(tmp_path, monkeypatch):
    """Steps 1 to 3 were sent, the checkpoint is of step 2: step 3 comes a second time, and stands there once."""
    with Server() as server:
        monkeypatch.setenv("WANDB_API_KEY", "a1b2" * 10)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()
        for steps in ((1, 2, 3), (3, 4)):
            logger = started(tmp_path, Mode.online)
            for step in steps:
                logger.log_metrics({"loss": 1 / step}, step)
            logger.experiment.finish()
        wandb.teardown()
    [rows] = server.history.values()
    assert [(row["_step"], row["loss"]) for row in rows] == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]
    assert {given["name"] for given in server.runs} == {(tmp_path / "wandb_id").read_text()}
