"""Multiruns whose jobs share a base, one after another or in packs: the runs and the record of any other multirun."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import cache
from runs import QUICK, metrics
from safetensors.torch import load_file

from acetrain.cli import main
from acetrain.training import fitting, shared_base
from acetrain.training.packed.module import Pack

GRID = ["seed=0,1", "max_steps=4"]
SHAPES = ["adapter.dropout=0,0.1"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


def sweep(songs: Path, folder: Path, *own: str) -> int:
    return main(["train", "-m", f"cache={songs}", f"out_dir={folder}", "name=grid", *QUICK, *GRID, *own])


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {file.parts[-3]: load_file(file) for file in folder.glob("grid-*/adapter/adapter_model.safetensors")}


@pytest.fixture(scope="module")
def loads() -> list[str]:
    return []


@pytest.fixture(scope="module")
def ran(songs: Path, tmp_path_factory: pytest.TempPathFactory, loads: list[str]) -> dict[str, Path]:
    """The grid on one base, each on its own, and in packs of two."""
    folder, load = tmp_path_factory.mktemp("ran"), fitting.load_stored

    def loading(*given: Any) -> Any:
        loads.append(kind)
        return load(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_base, "load_stored", loading)
        for kind, own in {"shared": [], "packed": ["sweep.pack=2"]}.items():
            assert sweep(songs, folder / kind, *SHAPES, *own) == 0
    assert sweep(songs, folder / "separate", *SHAPES, "sweep.share_base=false") == 0
    return {kind: folder / kind for kind in ("shared", "packed", "separate")}


@pytest.mark.slow
def test_one_base_is_loaded_and_the_results_are_the_same_to_the_bit(ran: dict[str, Path], loads: list[str]) -> None:
    assert loads == ["shared", "packed"]
    ours, theirs = weights(ran["shared"]), weights(ran["separate"])
    assert len(ours) == 4 and ours.keys() == theirs.keys()
    for run, expected in theirs.items():
        assert all(torch.equal(ours[run][name], weight) for name, weight in expected.items())
        assert metrics(ran["shared"] / run) == metrics(ran["separate"] / run)


@pytest.mark.slow
def test_packed_jobs_end_alike_and_stand_in_the_record(ran: dict[str, Path]) -> None:
    ours, theirs = weights(ran["packed"]), weights(ran["separate"])
    assert ours.keys() == theirs.keys()
    for run, expected in theirs.items():
        assert all(torch.allclose(ours[run][name], weight, atol=1e-5) for name, weight in expected.items())
    jobs = sorted((ran["packed"] / "sweeps" / "grid" / "jobs").glob("*.json"))
    attempts = [json.loads(file.read_text()) for file in jobs]
    assert [[one["code"] for one in tries] for tries in attempts] == [[0]] * 4 and all(
        one[0]["ended"] for one in attempts
    )


def test_a_job_that_cannot_be_packed_trains_alone_and_is_named(
    songs: Path, ran: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(ran["packed"], tmp_path / "copy")
    for file in copy.glob("grid-*/step-00000004.ckpt"):
        file.unlink()
    capsys.readouterr()
    assert sweep(songs, copy, *SHAPES, "sweep.pack=4") == 0
    out = capsys.readouterr().out
    assert out.count("trains alone: its adapter drops at random (adapter.dropout)") == 2
    assert out.count(", packed: ") == 2 and out.count("going on from step 3") == 4


@pytest.mark.slow
def test_a_pack_that_does_not_fit_is_trained_one_by_one(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Pack, step: object, index: int) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Pack, "training_step", full)
    assert sweep(songs, tmp_path, "sweep.pack=2") == 0
    assert "2 jobs do not fit side by side; now one by one" in capsys.readouterr().out
    jobs = (tmp_path / "sweeps" / "grid" / "jobs").glob("*.json")
    assert [[one["code"] for one in json.loads(file.read_text())] for file in jobs] == [[1, 0]] * 2


@pytest.mark.parametrize("own", [["launcher=local"], ["hydra/launcher=joblib"]], ids=lambda own: own[0])
def test_packs_need_jobs_in_one_process(
    own: list[str], songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(songs, tmp_path / "runs", "sweep.pack=2", *own) == 2
    assert capsys.readouterr().err.startswith("sweep.pack: must be 1 ")
