"""Every experiment takes a step on the tiny model."""

from pathlib import Path

import fabricate
import pytest

from acetrain.cli import main

pytestmark = pytest.mark.slow

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("name", [file.stem for file in EXPERIMENTS])
def test_an_experiment_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=5)
    quick = ["max_steps=1", "schedule.warmup=0", "logger=csv", "trainer.accelerator=cpu", "adapter.rank=2"]
    assert main(["train", "cache=cache", "out_dir=run", f"experiment={name}", *quick]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
