"""The benchmarks measure what they say: each runs here on little, and its figures hang together."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import cache

from acetrain.adapters.injection import trainable
from acetrain.cli import main
from benchmarks import adapters, train_step
from benchmarks.album import ARMS, Album, frames, padded_frames
from benchmarks.base import base_of, module_of
from benchmarks.preprocess import STAGES

ROOT = Path(__file__).parents[1]


def run(module: str, out: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark as its docstring says, and read the JSON it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (page,), (data,) = out.glob("*.md"), out.glob("*.json")
    assert page.read_text() in done.stdout and str(out) not in data.read_text()
    found = json.loads(data.read_text())
    assert found["command"] == shlex.join(["python", "-m", f"benchmarks.{module}", *arguments])
    assert found["commit"] and found["cpu"] and found["torch"] == torch.__version__
    return found


def test_every_arrangement_trains_on_every_song_once() -> None:
    album = Album.of(25.0, 4, 6, scale=0.1)
    assert album.lengths[0] == 300 and album.lengths[-1] == 750
    padding = {}
    for arm in ARMS:
        steps = album.epoch(arm, 3, songs_per_step=4, max_frames=1500)
        songs = [key[2] for step in steps for batch in step for key in batch.keys]
        assert len(set(songs)) == len(songs) == 13
        assert [round(sum(batch.weight * len(batch.frames) for batch in step), 6) for step in steps] == [1.0] * 4
        assert sum(map(frames, steps)) == sum(album.lengths)
        padding[arm] = sum(map(padded_frames, steps)) / sum(album.lengths) - 1
    assert padding["one song"] == 0 < padding["buckets"] < padding["padded"] < padding["shuffled"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would be used")
def test_a_released_shape_without_a_gpu_is_one_clear_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["train_step", "--model", "2b"])
    assert train_step.main() == 2
    said = "--model 2b: needs a CUDA device, torch finds none; --model tiny runs on a CPU\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("model", "parameters", "adapter"), [("2b", 1.576, 44_040_192), ("xl", 4.169, 83_886_080)])
def test_the_released_shapes_are_those_of_the_releases(model: str, parameters: float, adapter: int) -> None:
    base = base_of(model, torch.bfloat16, torch.device("meta"))
    weights = list(base.dit.parameters())
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    assert sum(weight.numel() for weight in weights) / 1e9 == pytest.approx(parameters, abs=0.001)
    trained = trainable(module_of(base, rank=64, checkpointing=True).dit).values()
    assert sum(weight.numel() for weight in trained) == adapter
    assert {weight.dtype for weight in trained} == {torch.float32}
    assert base.dit.recomputed


@pytest.mark.slow
def test_train_step_measures_the_tiny_base(tmp_path: Path) -> None:
    little = ["--device", "cpu", "--scale", "0.02", "--rounds", "1", "--warmup", "0", "--rank", "8"]
    arms = run("train_step", tmp_path, *little, "--arms", "one song,padded")["figures"]["arms"]
    assert list(arms) == ["one song", "padded"]
    assert arms["one song"]["padding"] == 0 < arms["padded"]["padding"] < 0.5
    for figures in arms.values():
        assert 0 < figures["mfu_of_matmul"] < 1 and figures["mfu_of_card"] is None
        assert 200 < figures["peak_memory_mib"] < 4000
        assert figures["audio_seconds_per_second"]["median"] > 0
    assert arms["one song"]["speed_against_one song"]["median"] == 1


@pytest.mark.slow
def test_preprocess_measures_every_stage(tmp_path: Path) -> None:
    little = ["--device", "cpu", "--songs", "4", "--seconds", "2", "--rounds", "1", "--warmup", "0"]
    found = run("preprocess", tmp_path, *little)["figures"]
    stages = found["stages"]
    assert set(stages) == {*STAGES, "rest", "total"}
    assert sum(stages[name]["share"]["median"] for name in stages if name != "total") == pytest.approx(1)
    assert all(stages[name]["audio_seconds_per_second"]["median"] > 0 for name in stages)
    assert set(found["peak_mib"]) == {"latents", "prompts", "conditions"} and min(found["peak_mib"].values()) > 100


@pytest.mark.slow
def test_load_measures_a_checkpoint_of_either_form(tmp_path: Path) -> None:
    little = ["--width", "512", "--layers", "6", "--shards", "3", "--rounds", "1"]
    found = run("load", tmp_path, *little)["figures"]["loads"]
    assert [(load["layout"], load["into"]) for load in found] == [
        (layout, format) for layout in ("one file", "3 shards") for format in ("bf16", "fp32")
    ]
    for load in found:
        assert load["loaded_bytes"] == pytest.approx(55e6 * (2 if load["into"] == "fp32" else 1), rel=0.1)
        assert 0 <= load["peak_anonymous"]["median"] < 1.6 and load["looks"]["median"] > 10
        assert load["peak_resident"]["median"] > 0.9 and load["seconds"]["median"] > 0


@pytest.mark.slow
def test_adapters_are_compared_by_their_runs(tmp_path: Path) -> None:
    songs, runs = cache(tmp_path / "cache", songs=6), tmp_path / "runs"
    grid = ["-m", "experiment=equal_budget/lora,equal_budget/ia3", "seed=0,1", "sweep=adapters", "max_steps=7"]
    assert main(["train", f"cache={songs}", f"out_dir={runs}", *grid]) == 0
    found = run("adapters", tmp_path / "out", str(runs))
    lora, ia3 = sorted(found["figures"], key=lambda kind: -kind["parameters"])
    assert (lora["name"], ia3["name"]) == ("lora", "ia3") and lora["size"] == "rank 14"
    assert len(lora["end"]) == len(ia3["seconds"]) == 2 and lora["start"] == ia3["start"]
    assert lora["parameters"] == 14 * 896 * 8 and 0 < lora["file_bytes"] - 4 * lora["parameters"] < 50_000
    assert min(lora["memory_mb"], ia3["memory_mb"]) > 100 and min(lora["seconds"]) > 0


def test_kinds_stand_in_the_order_of_what_they_bring() -> None:
    kinds = [
        adapters.Kind("lora", "rank 14", 1e-3, 100, [1.0, 1.0], [0.8, 0.9], [0.1, 0.2], 2048, 300.0),
        adapters.Kind("ia3", "", 1e-2, 3, [1.0, 2.0], [0.9, 1.8], [0.1, 0.1], 1024, 299.0),
    ]
    rows = adapters.page(kinds).split("\n")[6:8]
    assert rows[0].startswith(
        "| lora | rank 14 | 0.001 | 100 | 100% | 0.8500 (0.8000-0.9000) | 15.0% | 0.15 (0.10-0.20)"
    )
    assert rows[1].startswith("| ia3 |  | 0.01 | 3 | 3% | 1.3500 (0.9000-1.8000) | 10.0% |")


@pytest.mark.slow
def test_prune_times_whole_processes_and_dense_svds(tmp_path: Path) -> None:
    found = run("prune", tmp_path, "--layers", "1", "--rank", "4", "--to", "2", "--tries", "1")["figures"]
    assert found["modules"] == 11 == sum(one["modules"] for one in found["dense"])
    assert len(found["dense"]) == 4 and all(one["seconds"] > 0 for one in found["dense"])
    assert found["tries"][0]["cpu_seconds"] > 0 and found["tries"][0]["seconds"] > 0.5
