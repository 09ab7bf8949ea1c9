"""The loss of songs on a grid that does not change: what an adapter, or a change to one, is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.split import Group, groups
from acetrain.flow.timesteps import Timesteps
from acetrain.training.draws import fixed
from acetrain.training.objective import Objective


@dataclass(frozen=True)
class Jury:
    """Songs and the times they are judged at; noise is fixed by song and time, so that only the weights move a loss."""

    cache: Cache
    songs: Sequence[CachedSong]
    times: Sequence[float]

    @torch.no_grad()
    def losses(
        self, objective: Objective, max_frames: int, rank: int = 0, ranks: int = 1
    ) -> Float[Tensor, "song time"]:
        """The loss of each song at each time, without dropout of any kind, in batches of at most `max_frames` padded
        frames; 0 for songs that are another rank's. All ranks must ask together, as a shared-out base needs all."""
        training = objective.dit.training
        objective.dit.eval()
        device = objective.silence.device
        losses = torch.zeros(len(self.songs), len(self.times), device=device)
        packed = groups([song.frames for song in self.songs], max_frames)
        for mine in range(rank, -(-len(packed) // ranks) * ranks, ranks):
            group = packed[min(mine, len(packed) - 1)]
            batch = self._batch(group).to(device)
            for place, t in enumerate(self.times):
                found = objective.song_losses(batch, fixed(batch, t, place))
                if mine < len(packed):
                    losses[list(group), place] = found
        objective.dit.train(training)
        return losses

    def _batch(self, group: Group) -> Batch:
        songs = [self.songs[index] for index in group]
        return collate([self.cache.read(song) for song in songs], [("validation", song.name) for song in songs], 0.0)


def middle_quantiles(timesteps: Timesteps, count: int) -> list[float]:
    """The middle quantiles of `count` equal shares of a density, ascending."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return timesteps.quantile(u).float().tolist()
