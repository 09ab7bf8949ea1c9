"""Law 3: a run that was killed and started again ends in the same bits as one that was never killed."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import Run, adapter, metrics, start, train

from acetrain.training.run_folder import LOCK

STEPS = 20
RUN = ["adapter.dropout=0.1", f"max_steps={STEPS}", "schedule=cosine", "schedule.warmup=3", "ema=ema", "ema.start=2"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=7)


@pytest.fixture(scope="module")
def undisturbed(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done = train(songs, run, *RUN)
    assert done.returncode == 0, done.stderr
    return run


def assert_same(run: Path, undisturbed: Path) -> None:
    for saved in ("adapter", "adapter_ema", "best", "best_ema"):
        ours, theirs = adapter(run, saved), adapter(undisturbed, saved)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert metrics(run) == metrics(undisturbed)
    assert [row["step"] for row in metrics(run)] == [str(step) for step in range(1, STEPS + 1)]
    assert (run / "validation.csv").read_text() == (undisturbed / "validation.csv").read_text()


def rows(run: Path) -> int:
    file = run / "metrics.csv"
    return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


def stop_at(run: Run, folder: Path, row: int, delay: float, number: signal.Signals) -> int:
    """Signal the run `delay` seconds after its metrics have `row` rows; its exit code."""
    while not run.ended and rows(folder) < row:
        time.sleep(0.002)
    time.sleep(delay)
    run.send(number)
    done = run.wait()
    assert done.returncode in (0, -number, 128 + number), done.stderr
    return done.returncode


def kill_until_done(songs: Path, run: Path, kills: int, workers: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(kills):
        process = start(songs, run, *RUN, f"data.workers={workers}")
        stop_at(process, run, draw.randrange(STEPS), draw.uniform(0, 0.15), signal.SIGKILL)
    done = train(songs, run, *RUN, f"data.workers={workers}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("workers", "kills"), [(0, 2), (2, 1)])
def test_killed_runs_end_in_the_same_bits(
    songs: Path, undisturbed: Path, tmp_path: Path, workers: int, kills: int
) -> None:
    kill_until_done(songs, tmp_path / "run", kills, workers, seed=workers)
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_runs_killed_again_and_again_end_in_the_same_bits(
    songs: Path, undisturbed: Path, tmp_path: Path, workers: int, seed: int
) -> None:
    kill_until_done(songs, tmp_path / "run", kills=5, workers=workers, seed=100 + seed)
    assert_same(tmp_path / "run", undisturbed)


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGTERM, 0), *(pytest.param(number, 1, marks=pytest.mark.slow) for number in SIGNALS)],
)
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    songs: Path, undisturbed: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    run = tmp_path / "run"
    process = start(songs, run, *RUN, f"data.workers={workers}")
    assert stop_at(process, run, 4, 0.0, number) == 128 + number
    newest = max(run.glob("step-*.ckpt"))
    assert int(newest.stem.removeprefix("step-")) == rows(run) < STEPS
    assert train(songs, run, *RUN).returncode == 0
    ours, theirs = adapter(run), adapter(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def changed(run: Path) -> dict[Path, int]:
    """When each file of a run was last written, but the one that says who is at it."""
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK}


def test_a_finished_run_is_left_alone(songs: Path, undisturbed: Path) -> None:
    before = changed(undisturbed)
    done = train(songs, undisturbed, *RUN)
    assert done.returncode == 0 and "nothing left to do" in done.stdout
    assert changed(undisturbed) == before


def test_a_run_goes_on_when_it_is_given_more_steps(songs: Path, tmp_path: Path) -> None:
    straight, extended = tmp_path / "straight", tmp_path / "extended"
    assert train(songs, straight, "max_steps=8").returncode == 0
    assert train(songs, extended, "max_steps=5").returncode == 0
    assert train(songs, extended, "max_steps=8").returncode == 0
    ours, theirs = adapter(extended), adapter(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["step"] for row in metrics(extended)] == [str(step) for step in range(1, 9)]


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["resume=never"], 2, "resume: never"),
        (["seed=5"], 2, "seed (0 there, 5 here)"),
        (["adapter.rank=5"], 2, "adapter.rank (4 there, 5 here)"),
        (["data.validation=0.3"], 2, "data.validation (0.1 there, 0.3 here)"),
    ],
)
def test_a_used_folder_is_refused_for_another_run(
    songs: Path, undisturbed: Path, overrides: list[str], code: int, message: str
) -> None:
    before = {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}
    done = train(songs, undisturbed, *RUN, *overrides)
    assert done.returncode == code and message in done.stderr and len(done.stderr.strip().splitlines()) <= 4
    assert {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()} == before


def test_a_broken_checkpoint_stops_the_run_and_is_named(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(songs, run, "max_steps=4").returncode == 0
    newest = max(run.glob("step-*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    done = train(songs, run, "max_steps=8")
    assert done.returncode == 1 and newest.name in done.stderr and "cannot be read" in done.stderr
    newest.unlink()
    assert train(songs, run, "max_steps=8").returncode == 0
    assert [row["step"] for row in metrics(run)] == [str(step) for step in range(1, 9)]


def test_a_checkpoint_holds_the_adapter_three_times_and_nothing_of_the_base(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(songs, run, "max_steps=3", "adapter.rank=64", "adapter.alpha=64").returncode == 0
    size = sum(tensor.numel() * 4 for tensor in adapter(run).values())
    assert max(run.glob("step-*.ckpt")).stat().st_size <= 3.2 * size
    assert len(list(run.glob("step-*.ckpt"))) <= 2
