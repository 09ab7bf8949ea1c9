"""The benchmark of training on a real card, with the released shape."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("checkpointing", ["--checkpointing", "--no-checkpointing"])
def test_the_released_shape_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: str) -> None:
    little = ["--model", "2b", "--scale", "0.1", "--rounds", "1", "--arms", "buckets,padded", checkpointing]
    monkeypatch.setattr(sys, "argv", ["train_step", *little, "--out", str(tmp_path)])
    assert train_step.main() == 0
    (data,) = tmp_path.glob("train_step_2b_gpu*.json")
    arms = json.loads(data.read_text())["figures"]["arms"]
    for figures in arms.values():
        assert 0 < figures["mfu_of_matmul"] < 1.2
        assert figures["peak_memory_mib"] > 3000  # the base alone in bf16
    assert arms["buckets"]["padding"] <= arms["padded"]["padding"]
