"""Held-out loss while training: on a fixed grid, over all ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from acetrain.data.cache import Cache, CachedSong
from acetrain.training.budget import Budget
from acetrain.training.judging import Jury, middle_quantiles
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

    def times(self, module: FlowMatching) -> list[float]:
        """The grid's timesteps, ascending."""
        return middle_quantiles(module.recipe.timesteps, self.quantiles)

    def losses(self, module: FlowMatching) -> Float[Tensor, "song quantile"]:
        """The loss of each song at each quantile (`Jury.losses`)."""
        frames = self.budget.frames(module)
        jury = Jury(self.cache, self.songs, self.times(module))
        with module.trainer.precision_plugin.val_step_context():
            losses = jury.losses(module.flow, frames, module.global_rank, module.trainer.world_size)
        return sum_over_ranks(losses).cpu()
