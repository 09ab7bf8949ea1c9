"""The job as it is called: what it writes, that it repeats and resumes to the bit, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from fabricate import ACESTEP, MSE, UNWEIGHTED, base, cache
from runs import Done, Run, acetrain, launch

from acetrain.acestep.names import linear_layers, official
from acetrain.analysis.grid import Grid
from acetrain.analysis.report import CSV, JSON, Report
from acetrain.cli import main
from acetrain.data.batch import collate
from acetrain.data.cache import Cache
from acetrain.data.plan import held_out
from acetrain.errors import Failed
from acetrain.flow.loss import Reduction
from acetrain.training.draws import fixed
from acetrain.training.objective import Objective

QUICK = ["accelerator=cpu", "logger=csv", "bins=2", "rank_max=4", "draws=1"]
ATTENTION = ["targets=cross_attention"]
WRITTEN = {"config.yaml", "identity.json", JSON, CSV, "heat_map.png", "spectra.png"}


def arguments(songs: Path, out_dir: Path, *overrides: str) -> list[str]:
    return ["sensitivity", f"cache={songs}", f"out_dir={out_dir}", *QUICK, *overrides]


def measure(songs: Path, out_dir: Path, *overrides: str) -> Done:
    return acetrain(*arguments(songs, out_dir, *overrides))


def report(folder: Path) -> bytes:
    return (folder / JSON).read_bytes()


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


@pytest.fixture(scope="module")
def measured(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over every module."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    done = measure(songs, folder)
    assert done.returncode == 0, done.stderr
    assert "next: acetrain train" in done.stdout and "targets=sensitivity targets.report=" in done.stdout
    return folder


def test_it_leaves_the_report_its_table_and_its_pictures(measured: Path) -> None:
    assert {path.name for path in measured.iterdir()} == WRITTEN
    found = Report.read(measured / JSON)
    layers = linear_layers(base().dit.config)
    assert [module.name for module in found.modules] == [official(name) for name in layers]
    assert [module.shape for module in found.modules] == list(layers.values())
    assert all(len(module.bins) == 2 and len(module.spectrum) == 4 for module in found.modules)
    assert found.interval_over == "songs" and found.songs == 5 and found.groups == (3, 2)


def test_its_scores_are_those_of_autograds_gradients(songs: Path, measured: Path) -> None:
    """Every visit again, with gradients by autograd, and the two halves' means multiplied."""
    found, opened = Report.read(measured / JSON), Cache.open(songs)
    names = [song.name for song in opened.songs]

    chosen = [opened.songs[index] for index in held_out(names, 0.1)[0]]
    objective = Objective.on(base(), MSE, UNWEIGHTED, torch.device("cpu"))
    parameters = dict(objective.dit.named_parameters())
    weights = [parameters[f"{name}.weight"].requires_grad_(True) for name in linear_layers(objective.dit.config)]
    means = {}
    for unit in Grid(chosen, ACESTEP, Reduction.song, bins=2, draws=1, seed=0).units:
        total = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
        for visit in unit.visits:
            batch = collate([opened.read(visit.song)], [(0, "sensitivity", visit.song.name)], 1.0)
            loss = objective.song_losses(batch, fixed(batch, visit.t, *visit.noise)).sum()
            for one, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
                one += visit.weight * gradient.double()
        means[unit.half, unit.bin] = total
    for place, module in enumerate(found.modules):
        halves = [(means[half, 0][place] + means[half, 1][place]) / 2 for half in (0, 1)]
        scale = float(halves[0].norm() * halves[1].norm())
        assert module.score == pytest.approx(float((halves[0] * halves[1]).sum()), abs=1e-5 * scale)
        for bin in (0, 1):
            expected = float((means[0, bin][place] * means[1, bin][place]).sum())
            scale = float(means[0, bin][place].norm() * means[1, bin][place].norm())
            assert module.bins[bin].score == pytest.approx(expected, abs=1e-5 * scale)
        crossed = 0.0
        for a, b in (halves, halves[::-1]):
            u, _, vt = torch.linalg.svd(a, full_matrices=False)
            crossed += float(u[:, 0] @ b @ vt[0]) / 2
        assert module.spectrum[0] == pytest.approx(crossed, rel=1e-3, abs=1e-5 * scale**0.5)


def test_a_finished_run_is_told_again_and_left_alone(songs: Path, measured: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in measured.iterdir()}
    done = measure(songs, measured)
    assert done.returncode == 0 and "modules by score" in done.stdout
    assert {path.name: path.stat().st_mtime_ns for path in measured.iterdir()} == before
    other = measure(songs, measured, "seed=1")
    assert other.returncode == 2 and "seed (0 there, 1 here)" in other.stderr


@pytest.mark.parametrize("sketch", [8, 0])
def test_two_runs_agree_to_the_bit_with_and_without_checkpointing(songs: Path, tmp_path: Path, sketch: int) -> None:
    for name, more in (("a", "gradient_checkpointing=true"), ("b", "gradient_checkpointing=false")):
        done = measure(songs, tmp_path / name, f"sketch={sketch}", *ATTENTION, more)
        assert done.returncode == 0, done.stderr
    first, second = (json.loads(report(tmp_path / name)) for name in "ab")
    for content in (first, second):
        del content["settings"]["out_dir"], content["settings"]["gradient_checkpointing"]
    assert first == second


def stop_at(run: Run, folder: Path, units: int, number: signal.Signals) -> int:
    """Signal the run once it has written so many units; its exit code."""
    while not run.ended and len(list(folder.glob("state/half*.safetensors"))) < units:
        time.sleep(0.001)
    run.send(number)
    return run.wait().returncode


def test_a_run_that_was_ended_or_killed_goes_on_to_the_same_bits(songs: Path, tmp_path: Path) -> None:
    folder, more = tmp_path / "run", [*ATTENTION, "draws=6"]
    assert measure(songs, folder, *more).returncode == 0
    undisturbed = report(folder)
    for path in folder.iterdir():
        path.unlink()
    for units, number in ((1, signal.SIGTERM), (2, signal.SIGKILL)):
        code = stop_at(launch(tmp_path / "log.err", *arguments(songs, folder, *more)), folder, units, number)
        assert code == (128 + number if number == signal.SIGTERM else -number)
        assert len(list(folder.glob("state/half*.safetensors"))) >= units and not (folder / JSON).exists()
    other = measure(songs, folder, *more, "rank_max=3")
    assert other.returncode == 2 and "rank_max" in other.stderr
    done = measure(songs, folder, *more)
    assert done.returncode == 0 and report(folder) == undisturbed
    assert {path.name for path in folder.iterdir()} == WRITTEN


def test_a_run_that_ended_over_its_pictures_draws_them_the_next_time(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as broken:
        broken.setattr("acetrain.analysis.figures.spectra", failing)
        assert main(arguments(songs, folder, *ATTENTION)) == 1
    assert not (folder / JSON).exists()
    assert main(arguments(songs, folder, *ATTENTION)) == 0
    assert {path.name for path in folder.iterdir()} == WRITTEN
    (folder / "state").mkdir()
    assert main(arguments(songs, folder, *ATTENTION)) == 0
    assert {path.name for path in folder.iterdir()} == WRITTEN


def test_a_gradient_that_is_not_finite_is_one_line_with_its_module(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = Objective.song_losses

    def broken(*given: Any) -> torch.Tensor:
        found = losses(*given)
        return found + (0 * found).sqrt()

    monkeypatch.setattr(Objective, "song_losses", broken)
    assert main(arguments(songs, tmp_path / "run", *ATTENTION)) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    what = r"the gradient of layers\.0\.cross_attn\.q_proj at t=0\.\d+ is not finite; precision=fp32 may help"
    assert re.search(what, told), told
    assert not list((tmp_path / "run" / "state").iterdir())


def failing(found: Report) -> NoReturn:
    raise Failed("the disk is full")


def test_few_songs_have_intervals_over_draws(tmp_path: Path) -> None:
    few = cache(tmp_path / "cache", songs=2)
    done = measure(few, tmp_path / "run", *ATTENTION, "draws=3")
    assert done.returncode == 0 and "over draws of noise of these songs" in done.stdout
    found = Report.read(tmp_path / "run" / JSON)
    assert found.interval_over == "draws" and found.groups == (3, 3)
    assert all(module.interval is not None for module in found.modules)
    one = measure(few, tmp_path / "one", *ATTENTION)
    assert one.returncode == 0 and "no intervals: draws=2 or more gives them" in one.stdout


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_formats_give_much_the_same(songs: Path, measured: Path, tmp_path: Path, precision: str) -> None:
    done = measure(songs, tmp_path / "run", f"precision={precision}", *ATTENTION)
    assert done.returncode == 0, done.stderr
    reference = {module.name: module.score for module in Report.read(measured / JSON).modules}
    found = Report.read(tmp_path / "run" / JSON).modules
    ours, theirs = np.array([(module.score, reference[module.name]) for module in found]).T
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("sketch", [8, 0])
def test_two_ranks_agree_with_one(songs: Path, tmp_path: Path, sketch: int) -> None:
    for name, devices in (("one", 1), ("two", 2)):
        command = arguments(songs, tmp_path / name, f"devices={devices}", f"sketch={sketch}", *ATTENTION)
        done = subprocess.run(
            [sys.executable, "-m", "acetrain", *command],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    one, two = (Report.read(tmp_path / name / JSON) for name in ("one", "two"))
    largest = max(module.score for module in one.modules)
    for ours, theirs in zip(one.modules, two.modules, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=1e-5, abs=1e-6 * largest)
        np.testing.assert_allclose(ours.spectrum[0], theirs.spectrum[0], rtol=1e-5)


BAD = [
    ("cache=nowhere", r"cache: nowhere has no index.json"),
    ("cache=empty", r"cache: empty has no index.json"),
    ("targets.include=[q_prj]", r"targets.include: 'q_prj' matches no module of the DiT; nearest: q_proj"),
    ("targets=sensitivty", r"targets: there is no option 'sensitivty'; nearest: sensitivity"),
    ("bins=0", r"bins: must be from 1 to 64, got 0"),
    ("draws=0", r"draws: must be at least 1, or null, got 0"),
    ("songs=0", r"songs: must be at least 1, or null, got 0"),
    ("sketch=4", r"sketch: must be at least 8, or 0, got 4"),
    ("rank_max=65", r"rank_max: must be from 1 to half of sketch \(128\), got 65"),
    ("rank_max=0", r"rank_max: must be from 1 to half of sketch \(128\), got 0"),
    ("validation=1", r"validation: must be in \[0, 1\), got 1.0"),
    ("devices=0", r"devices: must be at least 1, got 0"),
    ("name=a/b", r"name: must be a word without '/', got 'a/b'"),
    ("precision=fp16", r"precision: must be fp32, bf16 or auto, as small gradients vanish in fp16, got 'fp16'"),
    ("adapter=lora", r"adapter: there is no such key \(Sensitivity\)"),
    ("out_dir=file", r"out_dir: file is a file"),
    ("out_dir=full", r"out_dir: must be new, empty or an earlier run of the same settings, got full"),
    ("model.path=nowhere", r"model.path: nowhere does not exist"),
    ("accelerator=tpu", r"accelerator: must be one of auto, cpu, gpu, got 'tpu'"),
    ("logger.mode=online", r"logger.mode: online needs an API key"),
]


@pytest.mark.parametrize(("override", "message"), BAD, ids=[override for override, _ in BAD])
def test_bad_input_is_refused_in_a_line_and_nothing_is_written(
    override: str,
    message: str,
    songs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    for file in ("file", "full/other"):
        (tmp_path / file).write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    before = sorted(tmp_path.rglob("*"))
    assert main(["sensitivity", f"cache={songs}", "out_dir=out", "accelerator=cpu", override]) == 2
    error = capsys.readouterr().err
    assert re.match(message, error) and len(error.splitlines()) <= 4, error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_is_too_small_is_refused_beforehand(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    assert main(arguments(songs, tmp_path / "out")) == 2
    assert re.match(r"out_dir: must hold 0\.\d GB of sums on the way, .* has 0.0 GB free", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
