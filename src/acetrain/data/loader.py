"""From cache and plan to the steps a rank trains on: one item is one optimizer step, a list of micro-batches."""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache
from acetrain.data.index import CachedSong
from acetrain.data.plan import Plan, Visit
from acetrain.data.split import deal
from acetrain.errors import Refused
from acetrain.flow.loss import Reduction

PARENT_POLL = 5.0
"""Seconds between a loader process's looks at whether the run is still there."""

Placed = tuple[Visit, int]
"""A visit and its place in the run."""


@dataclass(frozen=True)
class Unreadable:
    """A step whose songs could not be read; an exception would come out of a loader process as its trace."""

    reason: str


@dataclass
class Steps(Dataset[list[Batch] | Unreadable]):
    """Optimizer steps as one rank sees them; item i is step i of the plan, whatever was read before."""

    cache: Cache
    songs: Sequence[CachedSong]
    """The songs the plan's positions stand for."""
    plan: Plan
    max_frames: int
    """Padded frames a micro-batch may hold."""
    rank: int
    ranks: int
    reduction: Reduction
    cropped: bool
    """Whether visits take windows of songs that have them."""

    def __getitem__(self, index: int) -> list[Batch] | Unreadable:
        try:
            return self._micro_batches(index)
        except Refused as refusal:
            return Unreadable(str(refusal))

    def _micro_batches(self, index: int) -> list[Batch]:
        placed, weight = self.placed(index), self.weight(index)
        lengths = self._lengths(placed)
        filler = (min(range(len(placed)), key=lengths.__getitem__),)
        dealt = deal(lengths, self.max_frames, self.ranks)[self.rank]
        return [
            self.batch([placed[position] for position in group or filler], weight if group else 0.0) for group in dealt
        ]

    def placed(self, index: int) -> list[Placed]:
        """The visits of a step, on all ranks."""
        first = self.plan.place(index)
        return [(visit, first + position) for position, visit in enumerate(self.plan.step(index))]

    def weight(self, index: int) -> float:
        """One over what the songs of a step count together."""
        return 1 / sum(self.reduction.counts(self._lengths(self.placed(index))))

    def _lengths(self, placed: Sequence[Placed]) -> list[int]:
        return [self.plan.lengths[visit.song] for visit, _ in placed]

    def batch(self, placed: Sequence[Placed], weight: float) -> Batch:
        """These visits of a step as one micro-batch."""
        visits, places = zip(*placed, strict=True)
        songs = [self.songs[visit.song] for visit in visits]
        keys = [
            (self.plan.seed, visit.epoch, song.name, visit.repeat) for visit, song in zip(visits, songs, strict=True)
        ]
        takes = [song.drawn(self.cropped, *key) for song, key in zip(songs, keys, strict=True)]
        pairs = [self.cache.read(song, take) for song, take in zip(songs, takes, strict=True)]
        return collate(pairs, keys, weight, places)


def loader(steps: Steps, start: int, stop: int, workers: int, pin_memory: bool) -> DataLoader[list[Batch] | Unreadable]:
    """Steps start..stop-1 in order."""
    return one_by_one(steps, range(start, stop), workers, pin_memory)


def one_by_one(steps: Dataset[Any], indices: range, workers: int, pin_memory: bool) -> DataLoader[Any]:
    """Items in order. All that is drawn has a key, so any number of workers gives the same items."""
    return DataLoader(
        steps,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        worker_init_fn=partial(_leave_signals_to, os.getpid()),
        pin_memory=pin_memory,
    )


def _leave_signals_to(parent: int, worker: int) -> None:
    """A signal to the process group must not kill the loader before the run has written its checkpoint.

    A SIGTERM that the parent itself sends is another thing: at its exit it must end a worker that still waits.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # or torch's own handler ends the worker
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while Path(f"/proc/{parent}").exists():
        told = signal.sigtimedwait({signal.SIGTERM}, PARENT_POLL)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
