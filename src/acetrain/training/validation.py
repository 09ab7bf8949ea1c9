"""Held-out loss while training: on a grid that is the same for every recipe, over all ranks."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from acetrain.data.cache import Cache, CachedSong
from acetrain.flow.loss import Mse, Reduction
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Unweighted
from acetrain.training.budget import Budget
from acetrain.training.judging import Jury, middle_quantiles
from acetrain.training.module import FlowMatching
from acetrain.training.replicas import sum_over_ranks


@dataclass(frozen=True)
class Validation:
    """Held-out songs and what they are judged by: the unweighted squared error that the model was pretrained with, at
    times of its own density. Runs compare, whatever timesteps, loss and weighting they train with."""

    cache: Cache
    songs: Sequence[CachedSong]
    quantiles: int
    """Points of the grid: the middle quantiles of equal shares of the density."""
    density: Timesteps
    """The model's own."""
    budget: Budget

    @property
    def times(self) -> list[float]:
        """The grid's timesteps, ascending."""
        return middle_quantiles(self.density, self.quantiles)

    def losses(self, module: FlowMatching) -> Float[Tensor, "song quantile"]:
        """The loss of each song at each quantile (`Jury.losses`)."""
        frames = self.budget.frames(module)
        jury = Jury(self.cache, self.songs, self.times)
        yardstick = dataclasses.replace(module.flow, loss=Mse(Reduction.song), weighting=Unweighted())
        with module.trainer.precision_plugin.val_step_context():
            losses = jury.losses(yardstick, frames, module.global_rank, module.trainer.world_size)
        return sum_over_ranks(losses).cpu()
