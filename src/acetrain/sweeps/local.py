"""Jobs of a multirun side by side on one machine, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.command.outcome import DONE, FAILED, Outcome
from acetrain.errors import Refused
from acetrain.sweeps.record import Record

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun

POLL = 0.2
"""Seconds between looks at whether a job has ended."""
GRACE = 120.0
"""Seconds that jobs have to write their checkpoints when the launcher is told to stop."""


@dataclass(frozen=True)
class Slot:
    """A place for one job at a time."""

    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them; none on a machine without."""
    threads: int
    """CPU threads of its computations."""

    def environment(self) -> dict[str, str]:
        """What its job sees of the machine."""
        own = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self.threads))}
        if self.gpus:
            own["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return {**os.environ, **own}


@dataclass
class Job:
    """A job under way."""

    index: int
    slot: Slot
    process: subprocess.Popen[bytes]


def side_by_side(multirun: "Multirun", indices: Sequence[int], count: int) -> list[Outcome]:
    """Run these jobs, `count` at a time. A signal is passed on to those under way and ends the multirun once they have
    ended."""
    plan = multirun.planned[0]
    assert plan.record is not None
    free = slots(count, multirun.job(indices[0]).trainer.devices, gpus())
    waiting, under_way, outcomes = list(indices), list[Job](), dict[int, Outcome]()
    try:
        while waiting or under_way:
            while waiting and free:
                under_way.append(_start(multirun, plan.record, waiting.pop(0), free.pop(0)))
            for job in [job for job in under_way if job.process.poll() is not None]:
                under_way.remove(job)
                free.append(job.slot)
                outcomes[job.index] = _ended(multirun, plan.record, job)
            time.sleep(POLL)
    finally:
        stop(under_way)
    return [outcomes[index] for index in indices]


def slots(count: int, devices: int, gpus: Sequence[str]) -> list[Slot]:
    """Places for `count` jobs of so many devices each. Raises Refused where the GPUs are too few."""
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    if not gpus:
        return [Slot((), threads)] * count
    if count * devices > len(gpus):
        raise Refused(
            f"launcher.jobs: must be at most {len(gpus) // devices}, as a job takes {devices} of the {len(gpus)} GPUs, "
            f"got {count}"
        )
    return [Slot(tuple(gpus[place * devices : (place + 1) * devices]), threads) for place in range(count)]


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def _start(multirun: "Multirun", record: Record, index: int, slot: Slot) -> Job:
    run = multirun.planned[0].entries[index].run
    command = [sys.executable, "-m", "acetrain", "sweep", "run", f"name={record.name}"]
    command += [f"out_dir={record.parent}", f"job={run}"]
    with record.log(run).open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=slot.environment(), start_new_session=True
        )
    cell = multirun.grid.cell(index)
    print(f"job {index + 1} of {len(multirun.grid.cells)}: {cell}, its output is in {record.log(run)}", flush=True)
    return Job(index, slot, process)


def _ended(multirun: "Multirun", record: Record, job: Job) -> Outcome:
    code = job.process.returncode
    if code == DONE:
        print(f"job {job.index + 1} is done", flush=True)
        return Outcome(DONE)
    message = f"killed by {signal.Signals(-code).name}" if code < 0 else _last_line(record, multirun, job)
    print(f"job {job.index + 1} failed: {message}", flush=True)
    return Outcome(FAILED, message)


def _last_line(record: Record, multirun: "Multirun", job: Job) -> str:
    run = multirun.planned[0].entries[job.index].run
    attempts = record.attempts(run)
    own = [attempt.message for attempt in attempts if attempt.pid == job.process.pid]
    if own and own[-1]:
        return own[-1]
    lines = Path(record.log(run)).read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"exit code {job.process.returncode}"


def stop(under_way: Sequence[Job]) -> None:
    """Have the jobs under way write their checkpoints and end."""
    for job in under_way:
        job.process.terminate()
    deadline = time.monotonic() + GRACE
    for job in under_way:
        try:
            job.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(job.process.pid, signal.SIGKILL)
