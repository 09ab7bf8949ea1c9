"""The benchmark of a sensitivity pass measures both passes and relates them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sensitivity import Passes, Setting

ROOT = Path(__file__).parents[1]


def test_both_passes_go_through_and_the_plain_one_touches_no_weight(tmp_path: Path) -> None:
    passes = Passes(Setting("tiny", "cpu", "fp32", 0, 20, 8, 1), ("plain", "sketch"), tmp_path / "state")
    passes.plain()
    assert not any(float(one.sums["scalars"][0]) for one in passes.probe.accumulators.values())
    passes.sketch()
    assert all(float(one.sums["scalars"][0]) > 0 for one in passes.probe.accumulators.values())
    assert all(weight.grad is None for weight in passes.objective.dit.parameters())


@pytest.mark.slow
def test_it_writes_ratios(tmp_path: Path) -> None:
    command = ["benchmarks.sensitivity", "--model", "tiny", "--tokens", "50", "--rounds", "2", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "sensitivity_tiny_cpu_fp32.json").read_text())["figures"]
    peaks, seconds = figures["peak_bytes"], figures["seconds"]
    assert figures["ratios"]["memory"] == peaks["sketch"] / peaks["plain"]
    assert 0.8 < figures["ratios"]["time"]["median"] < 10 and all(found["min"] > 0 for found in seconds.values())
