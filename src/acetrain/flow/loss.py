"""What a run minimises: each option gives one loss a song."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Loss:
    """A loss over the predicted velocity."""

    def song_losses(self, velocity: "Tensor", target: "Tensor", valid: "Tensor", t: "Tensor") -> "Tensor":
        """[song], fp32, from velocity and target [song, frame, channel], valid [song, frame] and t [song]."""
        raise NotImplementedError


@dataclass
class Mse(Loss):
    """Mean squared error over a song's valid frames, as the model was pretrained (conditional flow matching)."""

    def song_losses(self, velocity: "Tensor", target: "Tensor", valid: "Tensor", t: "Tensor") -> "Tensor":
        from acetrain.flow.distance import song_mean

        return song_mean((velocity.float() - target.float()) ** 2, valid)
