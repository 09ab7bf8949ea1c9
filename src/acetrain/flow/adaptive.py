"""The timesteps of a run that looks more often where it loses more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import require
from acetrain.flow.timesteps import Acestep

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Adaptive(Acestep):
    """The model's own density drawn more often where the running loss is high, weighted so that the objective stays.

    Each of `bins` bins of equal mass has a running loss, from all songs of all ranks after every step. A bin is drawn
    in proportion to it, and a song's loss divided by how much oftener than evenly its bin is: importance sampling, so
    that loss and gradient keep their expectation. The running losses are in the checkpoint.
    """

    bins: int
    """Bins of equal mass, from 2 to 1000."""
    decay: float
    """What one song leaves of its bin's running loss, in [0, 1): 0.9 follows about the last ten songs in a bin."""
    floor: float
    """Share of the draws spread evenly over the bins, in (0, 1]: no song's loss is multiplied by more than 1/floor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.bins <= 1000, "timesteps.bins", "from 2 to 1000", self.bins)
        require(0 <= self.decay < 1, "timesteps.decay", "in [0, 1)", self.decay)
        require(0 < self.floor <= 1, "timesteps.floor", "in (0, 1]", self.floor)

    @property
    def followed_bins(self) -> int:
        return self.bins

    def aimed(self, u: "Tensor", running: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        from acetrain.flow.importance import aimed, frequencies

        return aimed(u, frequencies(running, self.floor))

    def followed(self, running: "Tensor", lost: "Tensor", songs: "Tensor") -> "Tensor":
        from acetrain.flow.importance import followed

        return followed(running, lost, songs, self.decay)
