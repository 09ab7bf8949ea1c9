"""A sweep whose launcher and jobs are killed again and again ends as one that nobody disturbed."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import fabricate
import pytest
import torch
from runs import QUICK, adapter, metrics

from acetrain.sweeps.record import Record
from acetrain.sweeps.results import Results, collect

SWEEP = """grid:
  adapter.rank: [2, 4]
  optimizer.lr: [1.0e-3, 4.0e-3]
  seed: [0, 1, 2, 3, 4, 5]
"""
KILLS = 5
FIGURES = ("best_val_loss", "best_val_step", "last_val_loss", "last_val_step", "final_train_loss", "parameters")


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("there")
    fabricate.cache(folder / "cache", songs=5)
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "many.yaml").write_text(SWEEP)
    return folder


def command(out_dir: str, *changes: str) -> list[str]:
    own = ["max_steps=6", "trainer.checkpoint_every=2", "trainer.validate_every=3", "data.validation=0.2"]
    given = ["cache=cache", f"out_dir={out_dir}", "sweep=many", *QUICK[:1], *QUICK[4:], *own]
    return [sys.executable, "-m", "acetrain", "train", *given, *changes]


def start(there: Path, *changes: str, most: int = resource.RLIM_INFINITY) -> subprocess.Popen[bytes]:
    """Start the sweep, on a disk that takes files of at most so many bytes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    with (there / "log").open("wb") as log:
        return subprocess.Popen(command(*changes), cwd=there, stdout=log, stderr=log, env=environment, preexec_fn=limit)


def jobs_of(folder: Path) -> list[int]:
    """Processes of the jobs of the sweep whose runs lie in `folder`."""
    found = subprocess.run(
        ["pgrep", "-f", f"sweep run many out_dir={folder.name} "], capture_output=True, text=True, check=False
    )
    return [int(number) for number in found.stdout.split() if int(number) != os.getpid()]


def disturb(there: Path, draw: random.Random) -> str:
    """Start the sweep, let it work for a while, and kill the launcher or one of its jobs; which it was."""
    launcher = start(there, "disturbed", "launcher=local", "launcher.jobs=2")
    time.sleep(draw.uniform(6, 16))
    jobs = jobs_of(there / "disturbed")
    if not jobs or draw.random() < 0.5:
        launcher.kill()
        launcher.wait()
        return "launcher"
    os.kill(draw.choice(jobs), signal.SIGKILL)
    launcher.wait(600)
    return "job"


def table(results: Results) -> list[tuple[object, ...]]:
    """What the table of results says, without what depends on the clock or the machine."""
    return [(one.run, one.state, one.values, *(one.figures[name] for name in FIGURES)) for one in results.runs]


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(there):
    assert start(there, "undisturbed").wait(1800) == 0
    draw = random.Random(1)
    hit = [disturb(there, draw) for _ in range(KILLS)]
    assert {"launcher", "job"} == set(hit)
    assert start(there, "disturbed", "launcher=local", "launcher.jobs=2").wait(1800) == 0
    ours, theirs = (collect(Record.of(there / name, "many")) for name in ("disturbed", "undisturbed"))
    assert len(ours.runs) == 24
    assert table(ours) == table(theirs)
    for one in theirs.runs:
        left, right = (there / name / one.run for name in ("disturbed", "undisturbed"))
        assert metrics(left) == metrics(right)
        assert all(torch.equal(adapter(left)[name], value) for name, value in adapter(right).items())


@pytest.mark.slow
def test_a_full_disk_fails_a_job_in_a_line_and_loses_nothing(there):
    few = ["sweep=null", "-m", "seed=7", "adapter.rank=2,64"]
    assert start(there, "full", *few, most=1_000_000).wait(600) == 1
    log = (there / "log").read_text()
    assert len(re.findall(r"job 2 failed: .*step-\d+.ckpt: cannot be written: File too large", log)) == 2, log
    assert "job 1 failed" not in log and "Traceback" not in log
    assert start(there, "full", *few).wait(600) == 0
    assert start(there, "never_full", *few).wait(600) == 0
    for run in (there / "never_full").glob("train-*"):
        assert all(torch.equal(adapter(there / "full" / run.name)[name], value) for name, value in adapter(run).items())
