"""A run outlives W&B's own process, which a signal to all processes of a job ends."""

from typing import Any

import pytest
from PIL import Image

from acetrain.tracking.logger import Ended
from acetrain.tracking.wandb import Stepped, finish


class Experiment:
    """A W&B run whose process ends after its first row."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.summary: dict[str, Any] = {}

    def log(self, row: dict[str, Any], step: int | None) -> None:
        if self.rows:
            raise ConnectionResetError("Connection lost")
        self.rows.append((row, step))

    def finish(self) -> None:
        raise AssertionError("there is nobody to be told")


@pytest.fixture
def logger(tmp_path, monkeypatch) -> Stepped:
    monkeypatch.setattr(Stepped, "experiment", Experiment())
    return Stepped(save_dir=tmp_path, offline=True)


def test_a_run_goes_on_without_it_and_says_so_once(logger, tmp_path, capsys):
    Image.new("RGB", (2, 2)).save(tmp_path / "loss.png")
    for step in (1, 2, 3):
        logger.log_metrics({"loss": 0.5}, step)
    finish(logger, Ended(tmp_path / "loss.png", [1, 2], 3, {"best": 0.5}))
    assert logger.experiment.rows == [({"loss": 0.5}, 1)]
    told = "W&B's own process has ended; metrics.csv has the figures from here on\n"
    assert capsys.readouterr().out == told
