"""One try at a training of a sweep, in whatever process it runs."""

import dataclasses
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from acetrain.command.outcome import SIGNALLED, Outcome, outcome_of, unexpected
from acetrain.errors import Interrupted, OutOfMemory
from acetrain.jobs.train import Train
from acetrain.ranks import follows
from acetrain.sweeps.record import Attempt, Record, now
from acetrain.training import advice


@dataclass
class Trying:
    """As a context: a try that the record of a sweep knows of from its beginning to however it ends."""

    record: Record
    run: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Keys that are changed on the way."""
    outcome: Outcome | None = None
    """How it ended, once that is known."""
    pruned: bool = False

    def __enter__(self) -> "Trying":
        self.began: Attempt = self.record.begin(self.run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted):
            self.outcome = Outcome(SIGNALLED + error.signum, str(error))
        elif isinstance(error, Exception):
            self.outcome = unexpected(error, debug=True)
        if self.outcome is not None:
            code, message = self.outcome.code, "\n".join(self.outcome.lines())
            rest = {"changes": self.changes, "pruned": self.pruned}
            self.record.end(self.run, dataclasses.replace(self.began, ended=now(), code=code, message=message, **rest))


def attempt(record: Record, run: str, job: Train, retry_oom: bool, debug: bool, train: Callable[[], None]) -> Outcome:
    """Do `train`, which trains `job`, noted in the record. Raises what nobody provides for, once it is noted.

    Where several processes train it, the first one's attempt is what is noted.
    """
    if follows():
        return outcome_of(lambda: _until_it_fits(job, retry_oom, {}, train), debug)
    with Trying(record, run) as trying:
        trying.outcome = outcome_of(lambda: _until_it_fits(job, retry_oom, trying.changes, train), debug)
        trying.pruned = job.pruned
        return trying.outcome


def free() -> None:
    """Give back what the model of a job took: references in a circle, and what the allocator keeps."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _until_it_fits(job: Train, retry_oom: bool, changes: dict[str, Any], train: Callable[[], None]) -> None:
    while True:
        try:
            return train()
        except OutOfMemory as error:
            fewer = error.frames // 2
            if not retry_oom or fewer < max(job.data.frames(song) for song in job.songs.songs):
                raise
            changes["data.max_frames"] = fewer
            job.data = dataclasses.replace(job.data, max_frames=str(fewer))
            line = f"data.max_frames: {error.frames} frames did not fit into memory; sweep.retry_oom tries {fewer}"
            advice.say(advice.noted(job.folder.path, [line]))
        free()  # once the error, whose trace holds the model, is gone
