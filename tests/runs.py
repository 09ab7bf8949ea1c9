"""Training runs as processes of their own, and what they leave behind."""

import csv
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

QUICK = [
    "logger=csv",
    "adapter.rank=4",
    "adapter.alpha=8",
    "optimizer.lr=1e-3",
    "trainer=cpu",
    "trainer.checkpoint_every=3",
    "trainer.validate_every=5",
    "trainer.validation_quantiles=3",
    "data.workers=0",
]
"""Overrides of a run that takes a second or two."""

MAKEFILE = Path(__file__).parents[1] / "Makefile"

FORKS = multiprocessing.get_context("forkserver")
"""Runs are forked from a server that has imported what is slow to import; each is a process that can be killed."""
FORKS.set_forkserver_preload(["one_thread", "acetrain.training.callbacks", "acetrain.acestep.load"])


@dataclass
class Done:
    """How a run ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Run:
    """A run under way."""

    process: ForkServerProcess
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.process.pid is not None and not self.ended:
            os.kill(self.process.pid, number)

    def wait(self, timeout: float = 300) -> Done:
        """Its exit code (minus the signal that killed it) and what it printed."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout} s: {self.log.read_text()}")
        return Done(self.process.exitcode, self.log.with_suffix(".out").read_text(), self.log.read_text())


def launch(log: Path, *arguments: str) -> Run:
    """Start a job in a process of its own; what it prints goes to `log` and its sibling `.out`."""
    for printed in (log.with_suffix(".out"), log):  # here, as a process may be killed before it has opened them
        printed.write_text("")
    process = FORKS.Process(target=_main, args=(arguments, log.with_suffix(".out"), log))
    process.start()
    return Run(process, log)


def acetrain(*arguments: str) -> Done:
    """Run a job to its end in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return launch(Path(folder) / "log.err", *arguments).wait()


def start(cache: Path, out_dir: Path, *overrides: str) -> Run:
    """Start a training in a process of its own."""
    return launch(out_dir.with_suffix(".err"), "train", f"cache={cache}", f"out_dir={out_dir}", *QUICK, *overrides)


def train(cache: Path, out_dir: Path, *overrides: str, timeout: float = 300) -> Done:
    """Train to the end in a process of its own."""
    return start(cache, out_dir, *overrides).wait(timeout)


def _main(arguments: tuple[str, ...], out: Path, err: Path) -> None:
    from acetrain.cli import main

    os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def train_from_the_shell(cache: Path, out_dir: Path, *overrides: str) -> Done:
    """Train by the command itself, as a run of several ranks must: each rank is started by the same command line."""
    arguments = [sys.executable, "-m", "acetrain", "train", f"cache={cache}", f"out_dir={out_dir}", *QUICK, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False, timeout=300)
    return Done(done.returncode, done.stdout, done.stderr)


def adapter(run: Path, name: str = "adapter") -> dict[str, Tensor]:
    """The tensors of a run's adapter."""
    return load_file(run / name / "adapter_model.safetensors")


def metrics(run: Path) -> list[dict[str, str]]:
    """Rows of `metrics.csv` without what depends on the clock or the machine."""
    timed = {"songs_per_s", "frames_per_s", "peak_memory_mb", "seconds"}
    with (run / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in timed} for row in csv.DictReader(file)]
