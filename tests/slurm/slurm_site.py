"""One cluster for all tests that need one, and the command line on it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster, missing, new_folder

PATIENCE = 900.0
"""Seconds that anything may take on a slow machine."""
QUICK = [
    "logger=csv",
    "adapter.rank=4",
    "adapter.alpha=8",
    "trainer.accelerator=cpu",
    "trainer.checkpoint_every=5",
    "trainer.validate_every=1000",
    "trainer.validation_quantiles=2",
    "data.workers=0",
]
SMALL = [
    "launcher=slurm",
    "launcher.time=30",
    "launcher.poll=0.5",
    "launcher.gpus=0",
    "launcher.cpus=1",
    "launcher.memory=1",
]
"""Jobs of a core and a GB each."""


LONG = ["max_steps=30", "schedule.warmup=0"]
"""A training that can be interfered with."""


@dataclass
class Site:
    """A user's folder on the cluster."""

    cluster: Cluster
    folder: Path
    cache: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`acetrain ARGUMENTS` under way, what it prints in one stream."""
        command = [sys.executable, "-m", "acetrain", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """What `acetrain ARGUMENTS` prints; it must end with this code."""
        process = self.start(*arguments)
        return ended(process, code)

    def ask(self, *command: str) -> str:
        """What a command says that is given in the user's folder."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def training(self, *arguments: str) -> list[str]:
        """Arguments of a training of the songs."""
        return ["train", f"cache={self.cache}", *QUICK, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        source = str(Path(__file__).parents[2] / "src")
        return self.cluster.environment | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}

    def status(self, sweep: str) -> list[dict]:
        """The jobs of a sweep as `acetrain sweep status` tells them."""
        return json.loads(self.run("sweep", "status", sweep, "--json"))["jobs"]

    def accounted(self, job: str, every: bool = False) -> list[tuple[str, str]]:
        """Id and state of each element of a job by SLURM's accounting; `every` time it was started, too."""
        more = ["--duplicates"] if every else []
        said = self.cluster.ask("sacct", "-n", "-P", "-X", *more, "-j", job, "-o", "JobID,State")
        return [(one, state.split()[0]) for one, state in (line.split("|") for line in said.splitlines())]

    def job(self, run: str, sweep: str) -> str:
        """The job that a run was submitted as last."""
        return json.loads((self.folder / "runs/sweeps" / sweep / "slurm.json").read_text())[run]

    def submitted(self, sweep: str) -> dict[str, str]:
        """Run -> job, once the sweep has been submitted."""
        file = self.folder / "runs/sweeps" / sweep / "slurm.json"
        until("the submission", file.exists)
        return json.loads(file.read_text())

    def rows(self, run: str) -> int:
        """Steps that a run has recorded."""
        file = self.folder / "runs" / run / "metrics.csv"
        return max(0, file.read_text().count("\n") - 1) if file.exists() else 0


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process has printed; it must end with this code."""
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, printed
    return printed


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster."""
    if missing():
        pytest.skip(f"needs {', '.join(missing())}: `make test-slurm` installs SLURM")
    running = Cluster(new_folder())
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def calm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, tiny_cache: Path) -> Path:
    """The long training that nobody disturbs, outside of SLURM."""
    site = Site(cluster, tmp_path_factory.mktemp("calm"), tiny_cache)
    site.run(*site.training("out_dir=run", *LONG, "seed=1"))
    return site.folder / "run"


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path, tiny_cache: Path) -> Site:
    """An empty folder on the cluster."""
    return Site(cluster, tmp_path, tiny_cache)
