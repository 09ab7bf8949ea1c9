"""Which songs make up each optimizer step. A pure function of lengths, seed, epoch and songs per step.

How a step is then split is `data/split.py`: it changes no step, no draw and no gradient.
"""

import hashlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache

from acetrain.keyed import seed_of

JITTER = 0.1
"""Spread of log-length before sorting: neighbours change between epochs and stay of similar length."""


@dataclass(frozen=True)
class Visit:
    """One song's turn: draws are keyed by it."""

    epoch: int
    song: int
    """Position of the song in the plan's lengths."""
    repeat: int


@dataclass(frozen=True)
class Plan:
    """An endless sequence of optimizer steps; in every epoch each song comes exactly `repeats` times its own repeat."""

    lengths: tuple[int, ...]
    """Frames of each song."""
    songs_per_step: int
    repeats: int
    seed: int
    own_repeats: tuple[int, ...] = ()
    """Factor of each song; empty where all are 1."""

    @cached_property
    def visits_per_epoch(self) -> tuple[int, ...]:
        """How often each song comes in an epoch."""
        return tuple(self.repeats * own for own in self.own_repeats or (1,) * len(self.lengths))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(sum(self.visits_per_epoch) / self.songs_per_step)

    def step(self, index: int) -> tuple[Visit, ...]:
        """The songs of optimizer step `index`, counted from 0 over all epochs."""
        epoch, place = divmod(index, self.steps_per_epoch)
        return self.epoch(epoch)[place]

    def place(self, index: int) -> int:
        """How many visits come before optimizer step `index`, over all epochs."""
        epoch, step = divmod(index, self.steps_per_epoch)
        return epoch * sum(self.visits_per_epoch) + sum(map(len, self.epoch(epoch)[:step]))

    def epoch(self, epoch: int) -> tuple[tuple[Visit, ...], ...]:
        """The steps of one epoch: songs of similar length together, the steps in random order.

        When the songs do not divide evenly one step is smaller, each time at a random place among the lengths.
        """
        return _epoch(self, epoch)

    def digest(self) -> str:
        """Identity of the plan: equal digests mean equal steps at every index."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


@lru_cache(maxsize=4)
def _epoch(plan: Plan, epoch: int) -> tuple[tuple[Visit, ...], ...]:
    draw = random.Random(seed_of(plan.seed, "plan", epoch))
    visits = [Visit(epoch, song, repeat) for song, count in enumerate(plan.visits_per_epoch) for repeat in range(count)]
    keys = {visit: math.log(plan.lengths[visit.song]) + draw.gauss(0, JITTER) for visit in visits}
    visits.sort(key=keys.__getitem__)
    sizes = _sizes(len(visits), plan.songs_per_step)
    draw.shuffle(sizes)
    steps, start = [], 0
    for size in sizes:
        steps.append(tuple(visits[start : start + size]))
        start += size
    draw.shuffle(steps)
    return tuple(steps)


def _sizes(total: int, size: int) -> list[int]:
    full, rest = divmod(total, size)
    return [size] * full + ([rest] if rest else [])


def held_out(names: Sequence[str], share: float) -> tuple[list[int], list[int]]:
    """Split songs into training and validation positions, by song, so that no song is in both.

    From 5 songs on a share above 0 holds out at least one song; below that, none. The names alone decide, so that runs
    with different seeds are judged on the same songs.
    """
    if share == 0 or len(names) < 5:
        return list(range(len(names))), []
    count = min(max(1, round(share * len(names))), len(names) - 1)
    by_draw = sorted(range(len(names)), key=lambda index: seed_of("held out", names[index]))
    return sorted(by_draw[count:]), sorted(by_draw[:count])
