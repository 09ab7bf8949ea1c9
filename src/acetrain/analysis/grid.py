"""Which song is looked at, at which time and with which noise: the same grid for every module."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from acetrain.data.cache import CachedSong
from acetrain.flow.loss import Reduction
from acetrain.flow.timesteps import Timesteps
from acetrain.keyed import Key, seed_of

LEAST_SONGS = 4
"""Songs from which on the halves are songs; with fewer they are draws of noise of the same songs."""
LEAST_VISITS = 8
"""Visits of a half in a bin that `draws=null` sees to."""
MOST_GROUPS = 16
"""Parts of a half that the jackknife leaves out one by one; songs beyond that many share one."""


@dataclass(frozen=True)
class Visit:
    """One song at one time with one noise."""

    song: CachedSong
    t: float
    weight: float
    """Share of the visit in the mean gradient of its half and bin; all of them sum to 1."""
    group: int
    """The part of the half that the jackknife leaves out together with it."""
    noise: tuple[Key, ...]
    """What its noise is keyed by, beside seed and song."""


@dataclass(frozen=True)
class Unit:
    """What is summed at once: the visits of one half in one bin."""

    half: int
    bin: int
    visits: tuple[Visit, ...]
    """Group by group."""
    shares: tuple[float, ...]
    """Weight of each group; they sum to 1."""

    @property
    def name(self) -> str:
        return f"half{self.half}-bin{self.bin}"


@dataclass(frozen=True)
class Grid:
    """Two halves of the visits, each over bins of equal probability of the training density."""

    songs: Sequence[CachedSong]
    density: Timesteps
    reduction: Reduction
    """What counts alike, as in training; a song with a repeat of its own counts that many times."""
    bins: int
    draws: int | None
    """Visits of a song in a bin; None for 1, or as many as give a half `LEAST_VISITS` in a bin."""
    seed: int

    @property
    def over_songs(self) -> bool:
        """Whether the halves are songs, and not draws of the same songs."""
        return len(self.songs) >= LEAST_SONGS

    @cached_property
    def halves(self) -> tuple[Sequence[CachedSong], Sequence[CachedSong]]:
        """The songs of each half, in an order drawn by the seed; all of them in both where there are too few."""
        drawn = sorted(self.songs, key=lambda song: seed_of(self.seed, "half", song.name))
        return (drawn[::2], drawn[1::2]) if self.over_songs else (drawn, drawn)

    @cached_property
    def draws_each(self) -> int:
        """Visits of a song in a bin."""
        return self.draws or max(1, math.ceil(LEAST_VISITS / min(map(len, self.halves))))

    def groups(self, half: int) -> int:
        """How many parts the jackknife leaves out one by one."""
        return min(MOST_GROUPS, len(self.halves[half]) if self.over_songs else self.draws_each)

    def times(self, bin: int) -> list[float]:
        """The times of a bin: the middle quantiles of equal shares of it."""
        return self._quantiles([(bin + (draw + 0.5) / self.draws_each) / self.bins for draw in range(self.draws_each)])

    @property
    def edges(self) -> list[float]:
        """Where bins begin and end, ascending."""
        return self._quantiles([bin / self.bins for bin in range(self.bins + 1)])

    @property
    def units(self) -> list[Unit]:
        """All that is to be looked at, in the order of the work."""
        return [self._unit(half, bin) for half in (0, 1) for bin in range(self.bins)]

    def _unit(self, half: int, bin: int) -> Unit:
        songs, groups, times = self.halves[half], self.groups(half), self.times(bin)
        counts = self.reduction.counts([song.frames for song in songs])
        shares = [count * song.repeat for count, song in zip(counts, songs, strict=True)]
        total = sum(shares) * self.draws_each
        visits, sums = [], [0.0] * groups
        for place, (song, share) in enumerate(zip(songs, shares, strict=True)):
            for draw, t in enumerate(times):
                group = (place if self.over_songs else draw) % groups
                noise = (bin, draw) if self.over_songs else (bin, draw, half)
                visits.append(Visit(song, t, share / total, group, noise))
                sums[group] += share / total
        return Unit(half, bin, tuple(sorted(visits, key=lambda visit: visit.group)), tuple(sums))

    def _quantiles(self, shares: Sequence[float]) -> list[float]:
        import torch

        return self.density.quantile(torch.tensor(shares, dtype=torch.float64)).float().tolist()
