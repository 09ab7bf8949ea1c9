"""Songs one at a time, as their own batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache, CachedSong


@dataclass(frozen=True)
class LoneSongs(Sequence[Batch]):
    """The songs of a cache, each read when it is asked for and keyed as its first visit of a run is."""

    cache: Cache
    songs: Sequence[CachedSong]
    seed: int

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride]
        song = self.songs[index]
        return collate([self.cache.read(song)], [(self.seed, 0, song.name, 0)], 1.0)

    def __iter__(self) -> Iterator[Batch]:
        return (self[index] for index in range(len(self)))
