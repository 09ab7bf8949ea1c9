"""TensorBoard shows every step once, whatever was restarted."""

import json

import fabricate
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from acetrain.cli import main
from acetrain.tracking.logger import Tensorboard


def test_every_step_stands_there_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=4)
    quick = ["cache=cache", "out_dir=run", "trainer=cpu", "logger=tensorboard", "adapter.rank=2"]
    for steps in (2, 4):
        assert main(["train", *quick, f"max_steps={steps}"]) == 0
    assert "tensorboard --logdir run/tensorboard" in capsys.readouterr().out
    seen = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    seen.Reload()
    assert [event.step for event in seen.Scalars("loss")] == [1, 2, 3, 4]
    assert seen.Tags()["images"] == ["plot"] and seen.Tags()["histograms"] == ["timesteps"]
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    assert [event.value for event in seen.Scalars("loss")] == pytest.approx(losses, rel=1e-6), json.dumps(losses)


def test_it_must_be_installed(monkeypatch):
    from acetrain.errors import Refused

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"logger: tensorboard is not installed: pip install"):
        Tensorboard().check()
