"""How far the jobs of a sweep are, as told by their runs' folders and the attempts at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from acetrain.command.outcome import DONE, SIGNALLED
from acetrain.sweeps.record import Attempt, Entry, Record
from acetrain.sweeps.slurm.submitted import Queued, in_queue
from acetrain.training.run_folder import holder, newest_step


class State(Enum):
    """What has become of a job."""

    finished = "finished"
    pruned = "pruned"
    running = "running"
    queued = "queued"
    interrupted = "interrupted"
    failed = "failed"
    missing = "missing"

    @property
    def settled(self) -> bool:
        """Whether a sweep that is started again leaves it alone."""
        return self in (State.finished, State.pruned)

    @property
    def busy(self) -> bool:
        """Whether a process trains it, or is going to."""
        return self in (State.running, State.queued)


@dataclass(frozen=True)
class Standing:
    """Where a job is."""

    entry: Entry
    state: State
    step: int
    """Of its newest checkpoint."""
    attempts: tuple[Attempt, ...]
    slurm: Queued | None = None
    """Its job in SLURM's queue."""

    @property
    def message(self) -> str:
        """What the last try said at its end."""
        return self.attempts[-1].message if self.attempts else ""

    @property
    def changes(self) -> dict[str, object]:
        """Keys that were changed on the way so that the job fits into memory."""
        return {key: value for attempt in self.attempts for key, value in attempt.changes.items()}


def standing(record: Record, entry: Entry, slurm: Queued | None = None) -> Standing:
    """Where one job is, whose job in SLURM's queue is `slurm`."""
    folder, attempts = record.folder(entry.run), record.attempts(entry.run)
    step = newest_step(folder)
    return Standing(entry, _state(entry, step, bool(holder(folder)), attempts, slurm), step, tuple(attempts), slurm)


def standings(record: Record, entries: Sequence[Entry]) -> list[Standing]:
    """Where each job is."""
    queued = in_queue(record.path)
    return [standing(record, entry, queued.get(entry.run)) for entry in entries]


def _state(entry: Entry, step: int, held: bool, attempts: Sequence[Attempt], slurm: Queued | None) -> State:
    last = attempts[-1] if attempts else None
    if held:
        return State.running
    if step >= entry.steps:
        return State.finished
    if last is not None and last.pruned:
        return State.pruned
    if slurm is not None:
        return State.running if slurm.place.running else State.queued
    if last is not None and last.ended and DONE < last.code < SIGNALLED:
        return State.failed
    return State.interrupted if step or last is not None else State.missing
