"""What a run minimises: each option is a distance between velocities; a song's loss is its mean over valid frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from torch import Tensor


class Reduction(Enum):
    """What counts alike in an optimizer step."""

    song = "song"
    frame = "frame"

    def counts(self, frames: Sequence[int]) -> tuple[int, ...]:
        """How much songs of so many frames count against each other."""
        return tuple(frames) if self is Reduction.frame else (1,) * len(frames)


@dataclass
class Loss:
    """A distance between the predicted velocity and the path's, averaged over valid frames and channels."""

    reduction: Reduction
    """What counts alike in an optimizer step: every song, or every frame, a song then counting by its frames. Held-out
    losses are means over songs either way, of squared errors whatever is minimised."""

    def distance(self, difference: "Tensor") -> "Tensor":
        """The distance for each element of velocity minus target, of its shape."""
        raise NotImplementedError

    def song_losses(self, velocity: "Tensor", target: "Tensor", valid: "Tensor") -> "Tensor":
        """[song], fp32, from velocity and target [song, frame, channel] and valid [song, frame]."""
        from acetrain.flow.distance import song_mean

        return song_mean(self.distance(velocity.float() - target.float()), valid)


@dataclass
class Mse(Loss):
    """Mean of d^2, as the model was pretrained (conditional flow matching, Lipman et al. 2023, arXiv:2210.02747)."""

    def distance(self, difference: "Tensor") -> "Tensor":
        from acetrain.flow.distance import squared

        return squared(difference)


@dataclass
class Huber(Loss):
    """Mean of d^2 / 2 up to |d| = delta and delta (|d| - delta / 2) beyond: outliers pull no harder than delta."""

    delta: float
    """Where the distance turns from quadratic to linear, above 0; velocities have a standard deviation of about 1.4."""

    def __post_init__(self) -> None:
        require(0 < self.delta < math.inf, "loss.delta", "above 0 and finite", self.delta)

    def distance(self, difference: "Tensor") -> "Tensor":
        from acetrain.flow.distance import huber

        return huber(difference, self.delta)


@dataclass
class LogCosh(Loss):
    """Mean of log cosh d: d^2 / 2 for small d, |d| - log 2 for large, smooth between."""

    def distance(self, difference: "Tensor") -> "Tensor":
        from acetrain.flow.distance import log_cosh

        return log_cosh(difference)
