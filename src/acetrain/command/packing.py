"""The jobs of a multirun in packs, each trained side by side in this process."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from acetrain.command.outcome import DONE, FAILED, SIGNALLED, Outcome, outcome_of
from acetrain.command.through_hydra import launch
from acetrain.errors import Interrupted, OutOfMemory
from acetrain.jobs.train import Train
from acetrain.sweeps.attempt import Trying, free
from acetrain.sweeps.record import Record
from acetrain.training.run_folder import holder

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun

HERE = ("hydra/launcher=basic",)


def launch_packed(multirun: "Multirun", indices: Sequence[int]) -> list[Outcome]:
    """Run these jobs, as many side by side as go together and were asked for, and tell how each ended."""
    record = multirun.planned[0].record
    assert record is not None
    grouped = _grouped(multirun, indices)
    returned = launch(multirun, range(len(grouped)), HERE, partial(_attempt, multirun, record, grouped))
    ended: dict[int, Outcome] = {}
    for group, outcomes in zip(grouped, returned, strict=True):
        several = outcomes if isinstance(outcomes, list) else [outcomes] * len(group)
        ended |= dict(zip(group, several, strict=True))
    return [ended[index] for index in indices]


def _grouped(multirun: "Multirun", indices: Sequence[int]) -> list[list[int]]:
    """The jobs by packs; those that another process is at stay by themselves, and come last."""
    from acetrain.training.packed.run import packs, why_alone

    jobs: dict[int, Train] = {index: multirun.job(index) for index in indices}
    for index, job in jobs.items():
        if reason := why_alone(job):
            print(f"sweep.pack: job {index + 1} trains alone: {reason}", flush=True)
    busy = [index for index, job in jobs.items() if holder(job.folder.path)]
    free = [index for index in jobs if index not in busy]
    found = packs([jobs[index] for index in free], multirun.settings.sweep.pack)
    return [*([free[place] for place in pack] for pack in found), *([index] for index in busy)]


def _attempt(
    multirun: "Multirun", record: Record, grouped: Sequence[Sequence[int]], number: int
) -> list[Outcome] | Outcome:
    group = grouped[number]
    if len(group) == 1:
        return multirun.attempt(group[0])
    total = len(multirun.grid.cells)
    for index in group:
        print(f"job {index + 1} of {total}, packed: {multirun.grid.cell(index)}", flush=True)
    outcomes = _together(multirun, record, group)
    if outcomes is None:
        free()
        return [multirun.attempt(index) for index in group]
    for index, outcome in zip(group, outcomes, strict=True):
        if outcome.code != DONE:
            print(f"job {index + 1} failed: {outcome.message}", flush=True)
    return outcomes


def _together(multirun: "Multirun", record: Record, group: Sequence[int]) -> list[Outcome] | None:
    """How the jobs of a pack ended; None where memory does not hold them side by side. Raises Interrupted."""
    from acetrain.training.packed.run import train_together

    jobs: list[Train] = [multirun.job(index) for index in group]
    for job in jobs:
        vars(job).update(sweep=record.name)
    interrupted: list[Interrupted] = []
    with ExitStack() as stack:
        tries = [stack.enter_context(Trying(record, multirun.planned[0].entries[index].run)) for index in group]
        try:
            ended = train_together(jobs, multirun.bases)
        except OutOfMemory as error:
            print(
                f"sweep.pack: {error}\nsweep.pack: {len(jobs)} jobs do not fit side by side; now one by one", flush=True
            )
            for trying in tries:
                trying.outcome = Outcome(FAILED, str(error))
            return None
        for trying, job, end in zip(tries, jobs, ended, strict=True):
            trying.pruned = job.pruned
            if isinstance(end, Interrupted):
                interrupted.append(end)
                trying.outcome = Outcome(SIGNALLED + end.signum, str(end))
            else:
                trying.outcome = outcome_of(partial(_raise, end), multirun.debug)
    for interruption in interrupted:
        raise interruption
    return [trying.outcome or Outcome(DONE) for trying in tries]


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
