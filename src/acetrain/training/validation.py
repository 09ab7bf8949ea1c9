"""Held-out loss on a fixed grid: the same songs, times and noise every time, so that only the weights move it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.split import Group, groups
from acetrain.training.budget import Budget
from acetrain.training.draws import fixed
from acetrain.training.module import FlowMatching
from acetrain.training.replicas import sum_over_ranks


@dataclass(frozen=True)
class Validation:
    """Held-out songs and the grid they are judged on."""

    cache: Cache
    songs: Sequence[CachedSong]
    quantiles: int
    """Points of the grid: the middle quantiles of equal shares of the training density."""
    budget: Budget

    def times(self, module: FlowMatching) -> Float[Tensor, " quantile"]:
        """The grid's timesteps, ascending."""
        u = (torch.arange(self.quantiles, dtype=torch.float64) + 0.5) / self.quantiles
        return module.recipe.timesteps.quantile(u).float()

    @torch.no_grad()
    def losses(self, module: FlowMatching) -> Float[Tensor, "song quantile"]:
        """The loss of each song at each quantile, without dropout of any kind; noise is fixed by (song, quantile)."""
        training = module.training
        module.eval()
        losses = torch.zeros(len(self.songs), self.quantiles, device=module.device)
        packed = groups([song.frames for song in self.songs], self.budget.frames(module))
        ranks = module.trainer.world_size
        with module.trainer.precision_plugin.val_step_context():
            for mine in range(module.global_rank, -(-len(packed) // ranks) * ranks, ranks):
                group = packed[min(mine, len(packed) - 1)]  # beyond the last: run along, as a shared-out base needs all
                batch = self._batch(group).to(module.device)
                for quantile, t in enumerate(self.times(module).tolist()):
                    found = module.song_losses(batch, fixed(batch, t, quantile))
                    if mine < len(packed):
                        losses[list(group), quantile] = found
        module.train(training)
        return sum_over_ranks(losses).cpu()

    def _batch(self, group: Group) -> Batch:
        songs = [self.songs[index] for index in group]
        return collate([self.cache.read(song) for song in songs], [("validation", song.name) for song in songs], 0.0)
