"""The album that is trained on, and its steps arranged in four ways."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acetrain.data.batch import Batch, collate
from acetrain.data.plan import Plan
from acetrain.data.split import deal
from acetrain.keyed import generator

SECONDS = (120, 131, 144, 158, 171, 183, 195, 208, 224, 240, 259, 278, 300)
"""Lengths of a mixed album's songs."""
TOKENS = (180, 520)
"""Fewest and most condition rows of a song: caption, timbre and some verses."""
EVERYTHING = 10**12
"""A frame budget that holds any step."""


@dataclass(frozen=True)
class Album:
    """Random songs in memory."""

    songs: tuple[tuple[Tensor, Tensor], ...]
    """Latents [frames, channels] and condition [tokens, width] of each."""

    @classmethod
    def of(cls, frame_rate: float, channels: int, width: int, scale: float) -> "Album":
        """Songs of `SECONDS` times `scale`."""
        songs = []
        for index, seconds in enumerate(SECONDS):
            draw = generator("album", index)
            frames = max(2, round(seconds * scale * frame_rate))
            tokens = int(torch.randint(*TOKENS, (), generator=draw))
            songs.append((torch.randn(frames, channels, generator=draw), torch.randn(tokens, width, generator=draw)))
        return cls(tuple(songs))

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(latents) for latents, _ in self.songs)

    def epoch(self, arm: str, epoch: int, songs_per_step: int, max_frames: int) -> list[list[Batch]]:
        """The steps of one pass over the songs, arranged as `arm` says."""
        steps = Plan(self.lengths, songs_per_step, 1, 0).epoch(epoch)
        chosen = [tuple(visit.song for visit in step) for step in steps]
        if arm == "shuffled":
            order = random.Random(epoch).sample(range(len(self.songs)), len(self.songs))
            chosen = [tuple(order[i : i + songs_per_step]) for i in range(0, len(order), songs_per_step)]
        budget = {"buckets": max_frames, "one song": 1}.get(arm, EVERYTHING)
        return [self._step(songs, epoch, budget) for songs in chosen]

    def _step(self, songs: Sequence[int], epoch: int, budget: int) -> list[Batch]:
        groups = deal([self.lengths[song] for song in songs], budget, ranks=1)[0]
        return [
            collate(
                [self.songs[songs[place]] for place in group],
                [(0, epoch, f"song{songs[place]}", 0) for place in group],
                1 / len(songs),
            )
            for group in groups
        ]


ARMS = {
    "buckets": "songs of similar length make a step, split under the frame budget",
    "one song": "the same steps, one song at a time",
    "padded": "the same steps, all songs of a step padded to its longest",
    "shuffled": "steps of random songs, all songs of a step padded to its longest",
}
"""Ways to arrange an epoch."""


def frames(step: Sequence[Batch]) -> int:
    """Valid frames of a step."""
    return sum(sum(batch.frames) for batch in step)


def padded_frames(step: Sequence[Batch]) -> int:
    """Frames of a step with their padding."""
    return sum(batch.latents.shape[0] * batch.latents.shape[1] for batch in step)
