"""Sweeps on a real SLURM: arrays, preemption, limits, kills and a controller that goes away."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import adapter, metrics
from slurm_site import LONG, SMALL, Site, ended, until

from acetrain.sweeps.record import Record

pytestmark = pytest.mark.slurm


def undisturbed(site: Site, *arguments: str) -> Path:
    """The run of a training outside of SLURM."""
    site.run(*site.training("out_dir=undisturbed", *arguments))
    return site.folder / "undisturbed"


def same(run: Path, other: Path) -> None:
    """Both have the same adapter, to the bit, and the same rows of figures."""
    ours, theirs = adapter(run), adapter(other)
    assert {name: tensor.numpy().tobytes() for name, tensor in ours.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in theirs.items()
    }
    assert metrics(run) == metrics(other)


def under_way(site: Site, rows: int, *arguments: str) -> tuple[subprocess.Popen[str], str, str]:
    """A sweep of one job on SLURM that has recorded so many steps; with its run and its job."""
    launcher = site.start(*site.training("sweep=one", *LONG, *SMALL, *arguments))
    (run, job), *_ = site.submitted("one").items()
    until("the first steps", lambda: site.rows(run) >= rows or launcher.poll() is not None)
    assert launcher.poll() is None, ended(launcher)
    return launcher, run, job


def process_of(site: Site, run: str) -> int:
    """The process of a run under way, found at once: there are only seconds to interfere with it."""
    return Record.of(site.folder / "runs", "one").attempts(run)[-1].pid


@pytest.fixture
def one(site: Site) -> Site:
    """A sweep of a single job."""
    (site.folder / "sweeps").mkdir()
    (site.folder / "sweeps/one.yaml").write_text("grid:\n  seed: [1]\n")
    return site


def test_a_sweep_is_one_array_and_ends_as_it_does_without_slurm(site: Site) -> None:
    (site.folder / "sweeps").mkdir()
    (site.folder / "sweeps/rates.yaml").write_text("grid:\n  optimizer.lr: [1.0e-3, 2.0e-3]\n  seed: [1, 2]\n")
    few = ["sweep=rates", "max_steps=4", "schedule.warmup=0"]
    told = site.run(*site.training(*few, *SMALL, "launcher.gpus=1"))
    jobs = site.submitted("rates")
    array = {job.partition("_")[0] for job in jobs.values()}
    assert len(array) == 1 and len(jobs) == 4
    assert f"submitted: 4 runs as job {array.copy().pop()} of SLURM" in told
    site.run(*site.training(*few, "out_dir=alone"))
    for run in jobs:
        same(site.folder / "runs" / run, site.folder / "alone" / run)
    log = (site.folder / "runs/sweeps/rates/jobs" / f"{next(iter(jobs))}.log").read_text()
    assert "run: runs/" in log
    assert dict(site.accounted(array.pop())) == dict.fromkeys(jobs.values(), "COMPLETED")
    assert [one["state"] for one in site.status("rates")] == ["finished"] * 4
    again = site.run(*site.training(*few, *SMALL))
    assert "submitted" not in again


@pytest.mark.parametrize("partition", ["low", "graceful"])
def test_a_preempted_job_goes_on_to_the_same_bits(one: Site, calm: Path, partition: str) -> None:
    launcher, run, job = under_way(one, 6, f"launcher.partition={partition}", "logger=wandb", "logger.mode=offline")
    name = (one.folder / "runs" / run / "wandb_id").read_text()
    everything = ["--partition=high", "--nodes=2", "--exclusive", "--mem=0", f"--output={one.folder}/high"]
    one.cluster.ask("sbatch", *everything, "--wrap=sleep 2")
    until("the preemption", lambda: len(one.accounted(job, every=True)) == 2 or launcher.poll() is not None)
    ended(launcher)
    same(one.folder / "runs" / run, calm)
    assert one.accounted(job) == [(job, "COMPLETED")]
    assert (one.folder / "runs" / run / "wandb_id").read_text() == name
    begun = {path.name.rpartition("-")[2] for path in (one.folder / "runs" / run / "wandb").glob("offline-run-*")}
    assert begun == {name}
    codes = [attempt["code"] for attempt in one.status("one")[0]["attempts"]]
    assert codes == [128 + signal.SIGTERM, 0]


@pytest.mark.parametrize("number", ["USR1", "USR2"])
def test_a_warned_job_goes_on_to_the_same_bits(one: Site, calm: Path, number: str) -> None:
    launcher, run, job = under_way(one, 6)
    one.cluster.ask("scancel", f"--signal={number}", job)
    ended(launcher)
    assert [state for _, state in one.accounted(job, every=True)] == ["REQUEUED", "COMPLETED"]
    same(one.folder / "runs" / run, calm)
    attempts = one.status("one")[0]["attempts"]
    assert [attempt["code"] for attempt in attempts] == [128 + getattr(signal, f"SIG{number}"), 0]
    assert {attempt["slurm"] for attempt in attempts} == {job}


@pytest.mark.parametrize("after", [0.0, 1.5])
def test_a_job_that_is_warned_before_it_trains_is_requeued(one: Site, after: float) -> None:
    launcher = one.start(*one.training("sweep=one", "max_steps=4", "schedule.warmup=0", *SMALL))
    (run, job), *_ = one.submitted("one").items()
    steps: Callable[[], list[str]] = lambda: one.cluster.ask("squeue", "-h", "-s", "-j", job, "-o", "%i").split()  # noqa: E731
    until("its process", lambda: any(step.endswith(".0") for step in steps()))
    subprocess.run(["sleep", str(after)], check=True)
    one.cluster.ask("scancel", "--signal=USR2", job)
    ended(launcher)
    assert [state for _, state in one.accounted(job, every=True)] == ["REQUEUED", "COMPLETED"]
    assert one.rows(run) == 4


def test_a_killed_job_is_told_and_goes_on_when_the_sweep_is_started_again(one: Site, calm: Path) -> None:
    launcher, run, job = under_way(one, 7)
    os.kill(process_of(one, run), signal.SIGKILL)
    told = ended(launcher, 1)
    assert f"job {job} of SLURM ended as FAILED at step" in told
    assert one.accounted(job) == [(job, "FAILED")]
    (status,) = one.status("one")
    assert status["state"] == "interrupted" and status["step"] >= one.rows(run) - 5
    one.run(*one.training("sweep=one", *LONG, *SMALL))
    same(one.folder / "runs" / run, calm)
    log = (one.folder / "runs/sweeps/one/jobs" / f"{run}.log").read_text()
    assert f"going on from step {status['step']}" in log


def warned(process: int) -> bool:
    """Whether SIGUSR2 waits for a process that is stopped, or it is gone."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return True
    pending = int(re.findall(r"ShdPnd:\s*(\w+)", status.read_text())[0], 16)
    return bool(pending >> (signal.SIGUSR2 - 1) & 1)


def test_a_job_whose_time_is_up_is_requeued_and_goes_on(one: Site, calm: Path) -> None:
    """The run is stopped until SLURM has warned it, as machines differ in speed."""
    launcher, run, job = under_way(one, 6, "launcher.time=3", "launcher.warning=60")
    process = process_of(one, run)
    os.kill(process, signal.SIGSTOP)
    until("the warning", lambda: warned(process))
    with contextlib.suppress(ProcessLookupError):  # SLURM lets a process go on that it warns, and it may have ended
        os.kill(process, signal.SIGCONT)
    ended(launcher)
    *before, last = [state for _, state in one.accounted(job, every=True)]
    assert before and set(before) == {"REQUEUED"} and last == "COMPLETED"
    same(one.folder / "runs" / run, calm)
    codes = [attempt["code"] for attempt in one.status("one")[0]["attempts"]]
    assert codes[-1] == 0 and set(codes[:-1]) == {128 + signal.SIGUSR2}


def test_two_tasks_on_two_nodes_train_as_two_processes_on_one(one: Site) -> None:
    ranks = ["trainer.devices=1", "trainer.nodes=2"]
    launcher, run, job = under_way(one, 6, *ranks)
    one.cluster.ask("scancel", "--signal=USR1", job)
    ended(launcher)
    assert [state for _, state in one.accounted(job, every=True)] == ["REQUEUED", "COMPLETED"]
    assert len(one.status("one")[0]["attempts"]) == 2
    same(one.folder / "runs" / run, undisturbed(one, *LONG, "seed=1", "trainer.devices=2"))


def test_a_controller_that_restarts_in_mid_sweep_is_waited_for(site: Site) -> None:
    (site.folder / "sweeps").mkdir()
    (site.folder / "sweeps/seeds.yaml").write_text("grid:\n  seed: [1, 2, 3]\n")
    launcher = site.start(
        *site.training("sweep=seeds", "max_steps=60", "schedule.warmup=0", *SMALL, "launcher.parallel=1")
    )
    jobs = site.submitted("seeds")
    until("the first job's steps", lambda: site.rows(next(iter(jobs))) > 10)
    site.cluster.end("slurmctld")
    until("steps without a controller", lambda: site.rows(next(iter(jobs))) == 60)
    time.sleep(30)  # until the launcher's question after the queue has gone without an answer
    site.cluster.start_controller()
    told = ended(launcher)
    assert "SLURM's controller does not answer; waiting for it" in told and "SLURM's controller is back" in told
    array = next(iter(jobs.values())).partition("_")[0]
    assert dict(site.accounted(array)) == dict.fromkeys(jobs.values(), "COMPLETED")
    assert [one["state"] for one in site.status("seeds")] == ["finished"] * 3


def test_status_and_accounting_agree_on_every_end(site: Site) -> None:
    (site.folder / "sweeps").mkdir()
    (site.folder / "sweeps/ends.yaml").write_text("grid:\n  seed: [1, 2, 3]\n")
    command = site.training("sweep=ends", *LONG, "optimizer.lr=1e38", "trainer.max_bad_steps=1", *SMALL)
    site.run(*command, "launcher.wait=false", "launcher.parallel=1")
    jobs = site.submitted("ends")
    states: Callable[[], list[str]] = lambda: [one["state"] for one in site.status("ends")]  # noqa: E731
    assert set(states()) <= {"queued", "running", "missing"}
    array = next(iter(jobs.values())).partition("_")[0]
    site.cluster.ask("scancel", list(jobs.values())[-1])
    until("their end", lambda: not site.cluster.ask("squeue", "-h", "-j", array, check=False))
    until("the accounts", lambda: all(state != "RUNNING" for _, state in site.accounted(array)))
    kept = [state for _, state in site.accounted(array)]  # of a job that never began some versions keep no account
    assert kept in (["FAILED", "FAILED"], ["FAILED", "FAILED", "CANCELLED"])
    assert states() == ["failed", "failed", "missing"]


def test_jobs_share_a_search(site: Site) -> None:
    (site.folder / "sweeps").mkdir()
    space = "{adapter.rank: {choices: [2, 4]}, optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}"
    search = f"search:\n  trials: 4\n  pruner: {{kind: none}}\n  space: {space}\n"
    (site.folder / "sweeps/hunt.yaml").write_text(f"data:\n  validation: 0.2\n{search}")
    command = site.training("sweep=hunt", "max_steps=4", "schedule.warmup=0", *SMALL, "launcher.parallel=2")
    told = site.run(*command)
    jobs = json.loads((site.folder / "runs/sweeps/hunt/search/slurm.json").read_text())
    array = {job.partition("_")[0] for job in jobs}
    assert len(jobs) == 2 and f"submitted: 2 jobs as job {array.copy().pop()} of SLURM" in told
    assert dict(site.accounted(array.pop())) == dict.fromkeys(jobs, "COMPLETED")
    assert [one["state"] for one in site.status("hunt")] == ["finished"] * 4
