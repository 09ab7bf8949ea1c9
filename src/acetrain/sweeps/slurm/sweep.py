"""The jobs of a sweep handed to SLURM, and followed until they have ended."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import yaml

from acetrain.atomic import PARTIAL
from acetrain.command.outcome import DONE, FAILED, Outcome
from acetrain.errors import Interrupted, Refused, require
from acetrain.sweeps import table
from acetrain.sweeps.record import Entry, Record
from acetrain.sweeps.slurm import queue
from acetrain.sweeps.slurm.option import Slurm
from acetrain.sweeps.slurm.submitted import FOLDER, in_queue, log, note, submitted
from acetrain.sweeps.state import Standing, State, standings

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun

SETTLE = 10.0
"""Seconds that files of a job that has ended may take to be seen on this machine."""


def launch(option: Slurm, multirun: "Multirun", indices: Sequence[int]) -> list[Outcome]:
    """Submit the jobs that are not in the queue, as one array, and wait for all of them where that is asked for."""
    plan = multirun.planned[0]
    assert plan.record is not None
    queued, entries = in_queue(plan.record.path), [plan.entries[index] for index in indices]
    new = [entry.run for entry in entries if entry.run not in queued]
    if new:
        _submit(option, plan.record, new, *shape(option, multirun, indices))
    if len(new) < len(entries):
        print(f"{len(entries) - len(new)} jobs are in the queue already", flush=True)
    if not option.wait:
        print(f"to follow them: {plan.record.asking('status')}", flush=True)
        return [Outcome(DONE)] * len(entries)
    _wait(option, plan.record, entries)
    return [_outcome(plan.record, one) for one in standings(plan.record, entries)]


def shape(option: Slurm, multirun: "Multirun", indices: Sequence[int]) -> tuple[int, int]:
    """Nodes of each of these jobs and processes on each. Raises Refused where they are not one array's."""
    plan = multirun.planned[0]
    if plan.record is None:
        raise Refused(f"launcher: must be here for {multirun.composer.job}, only trainings are submitted")
    shapes = {_shape(option, plan.configs[index]) for index in indices}
    if len(shapes) > 1:
        raise Refused("trainer.devices: must be the same in all jobs, as must trainer.nodes: they are one array")
    return shapes.pop()


def _shape(option: Slurm, config: str) -> tuple[int, int]:
    """Nodes of a job and processes on each. Raises Refused where those asked for are not the run's."""
    trainer = yaml.safe_load(config)["trainer"]
    for key, own in (("nodes", "nodes"), ("tasks", "devices")):
        given = getattr(option, key)
        require(given in (None, trainer[own]), f"launcher.{key}", f"trainer.{own}, {trainer[own]}, or null", given)
    return trainer["nodes"], trainer["devices"]


def _submit(option: Slurm, record: Record, runs: Sequence[str], nodes: int, tasks: int) -> None:
    from acetrain.sweeps.slurm.array import Command, array

    elements = {"array": f"0-{len(runs) - 1}%{option.parallel}"} if len(runs) > 1 else {}
    queue.check_accepted({**option.flags(nodes, tasks), **elements})
    folder = (record.path / FOLDER).absolute()
    commands = [
        Command(("sweep", "run", f"name={record.name}", f"out_dir={record.parent}", f"job={run}")) for run in runs
    ]
    jobs = array(option, folder, f"acetrain-{record.name}", nodes, tasks).submit(commands)
    note(record.path, dict(zip(runs, jobs, strict=True)))
    for run, job in zip(runs, jobs, strict=True):
        _link(record, run, job)
    first, _, _ = jobs[0].partition("_")
    print(f"submitted: {len(jobs)} runs as job {first} of SLURM, which print to {record.path / FOLDER}", flush=True)


def _link(record: Record, run: str, job: str) -> None:
    """Have the run's log be what the first process of its newest job prints."""
    link = record.log(run)
    new = link.with_name(f"{PARTIAL}{link.name}")
    new.unlink(missing_ok=True)
    new.symlink_to("../" + str(log(job)))
    new.replace(link)


def _wait(option: Slurm, record: Record, entries: Sequence[Entry]) -> None:
    """Show the table as it changes, until none of the jobs is in the queue."""
    jobs = submitted(record.path)
    shown = _Shown(record, entries)
    try:
        wait([jobs[entry.run] for entry in entries], option.poll, record, shown.update)
    finally:
        shown.close()


def wait(jobs: Sequence[str], poll: float, record: Record, look: Callable[[], None]) -> None:
    """Call `look` every `poll` seconds until none of the jobs is in the queue. A signal ends the waiting, not them."""
    waiting, away = list(jobs), False
    try:
        while waiting:
            time.sleep(poll)
            places = queue.places()
            if (places is None) != away:
                away = places is None
                print(f"SLURM's controller {'does not answer; waiting for it' if away else 'is back'}", flush=True)
            if places is not None:
                waiting = [job for job in waiting if job in places and not places[job].ended]
                look()
    except Interrupted as interruption:
        ids = " ".join(sorted({job.partition("_")[0] for job in waiting}))
        then = f"the jobs stay in the queue: {record.asking('status')} follows them, scancel {ids} ends them"
        raise Interrupted(interruption.signum, then) from None


class _Shown:
    """The table of jobs on a terminal, or a line for each job whose state has changed."""

    def __init__(self, record: Record, entries: Sequence[Entry]) -> None:
        self.record, self.entries = record, entries
        self.states: dict[str, State] = {}
        self.live = None
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(auto_refresh=False)
            self.live.start()
        self.update()

    def update(self) -> None:
        """Look again."""
        found = standings(self.record, self.entries)
        if self.live is not None:
            self.live.update("\n".join(table.jobs(found)), refresh=True)
            return
        for number, one in enumerate(found, 1):
            if self.states.get(one.entry.run) is not one.state:
                self.states[one.entry.run] = one.state
                print(f"job {number} of {len(found)}: {one.state.value}, {one.entry.run} step {one.step}", flush=True)

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()


def _outcome(record: Record, one: Standing) -> Outcome:
    """How a job that has left the queue ended."""
    deadline = time.monotonic() + SETTLE
    while one.state is State.running and time.monotonic() < deadline:
        time.sleep(1)
        one = standings(record, [one.entry])[0]
    if one.state.settled:
        return Outcome(DONE)
    if one.state is State.failed:
        return Outcome(FAILED, one.message)
    job = submitted(record.path)[one.entry.run]
    place = (queue.places() or {}).get(job)
    word = f" as {place.state}" if place else ""
    return Outcome(FAILED, f"job {job} of SLURM ended{word} at step {one.step}, see {record.log(one.entry.run)}")
