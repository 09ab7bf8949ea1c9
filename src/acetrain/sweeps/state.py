"""How far the jobs of a sweep are, as told by their runs' folders and the attempts at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from acetrain.command.outcome import DONE, SIGNALLED
from acetrain.sweeps.record import Attempt, Entry, Record
from acetrain.training.run_folder import holder, newest_step


class State(Enum):
    """What has become of a job."""

    finished = "finished"
    pruned = "pruned"
    running = "running"
    interrupted = "interrupted"
    failed = "failed"
    missing = "missing"

    @property
    def settled(self) -> bool:
        """Whether a sweep that is started again leaves it alone."""
        return self in (State.finished, State.pruned)


@dataclass(frozen=True)
class Standing:
    """Where a job is."""

    entry: Entry
    state: State
    step: int
    """Of its newest checkpoint."""
    attempts: tuple[Attempt, ...]

    @property
    def message(self) -> str:
        """What the last try said at its end."""
        return self.attempts[-1].message if self.attempts else ""

    @property
    def changes(self) -> dict[str, object]:
        """Keys that were changed on the way so that the job fits into memory."""
        return {key: value for attempt in self.attempts for key, value in attempt.changes.items()}


def standing(record: Record, entry: Entry) -> Standing:
    """Where one job is."""
    folder, attempts = record.folder(entry.run), record.attempts(entry.run)
    step = newest_step(folder)
    return Standing(entry, _state(entry, step, bool(holder(folder)), attempts), step, tuple(attempts))


def standings(record: Record, entries: Sequence[Entry]) -> list[Standing]:
    """Where each job is."""
    return [standing(record, entry) for entry in entries]


def _state(entry: Entry, step: int, held: bool, attempts: Sequence[Attempt]) -> State:
    last = attempts[-1] if attempts else None
    if held:
        return State.running
    if step >= entry.steps:
        return State.finished
    if last is not None and last.pruned:
        return State.pruned
    if last is not None and last.ended and DONE < last.code < SIGNALLED:
        return State.failed
    return State.interrupted if step or last is not None else State.missing
