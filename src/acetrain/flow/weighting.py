"""How much a song's loss counts by its time: each option is a factor w(t) on the velocity loss.

With x_t = t noise + (1-t) data and velocity v = noise - data, the data predicted is x_t - t v. So errors are related by
|data - predicted|^2 = t^2 |v - predicted|^2, the noise's by (1-t)^2, and the signal-to-noise ratio is ((1-t)/t)^2.
No weighting is divided by its mean: the learning rate and `trainer.clip` see the loss as the formula has it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Weighting:
    """A factor on the training loss of a song at time t; not normalised."""

    def weights(self, t: "Tensor") -> "Tensor":
        """w(t), at least 0, for times in (0, 1); shape and dtype of t."""
        raise NotImplementedError


@dataclass
class Unweighted(Weighting):
    """w = 1: only the density of timesteps says which times count."""

    def weights(self, t: "Tensor") -> "Tensor":
        return t.new_ones(t.shape)


@dataclass
class MinSnr(Weighting):
    """w = min((1-t)^2, gamma t^2): Min-SNR-gamma (Hang et al. 2023, arXiv:2303.09556) for a velocity target.

    The paper weighs the error of the data by min(SNR, gamma). That error is t^2 times the velocity's and SNR is
    ((1-t)/t)^2, so w = t^2 min(SNR, gamma). The clean end, where SNR is above gamma (t below 1 / (1 + sqrt(gamma))), is
    held to gamma t^2; towards noise it falls as (1-t)^2, the error of the noise. At most gamma / (1 + sqrt(gamma))^2.
    """

    gamma: float
    """Largest weight of the data's error, above 0; the paper's is 5."""

    def __post_init__(self) -> None:
        require(0 < self.gamma < math.inf, "weighting.gamma", "above 0 and finite", self.gamma)

    def weights(self, t: "Tensor") -> "Tensor":
        return ((1 - t) ** 2).minimum(self.gamma * t**2)


@dataclass
class SigmaSqrt(Weighting):
    """w = 1 / t^2: diffusers' `sigma_sqrt`. Without bound at the clean end: give `timesteps.low` a value above 0.

    On an error of the data it gives the velocity's. On the velocity's, as here, it stresses the clean end.
    """

    def weights(self, t: "Tensor") -> "Tensor":
        return t**-2


@dataclass
class CosmapWeighting(Weighting):
    """w = 2 / (pi (1 - 2t + 2t^2)): uniform times weighted so count as CosMap's do (Esser et al. 2024).

    The density of `timesteps=cosmap` as a weight: 2/pi at both ends, 4/pi in the middle, mean 1 over uniform times.
    """

    def weights(self, t: "Tensor") -> "Tensor":
        return 2 / (math.pi * (1 - 2 * t + 2 * t**2))


@dataclass
class Debias(Weighting):
    """w = t (1-t): debiased estimation (Yu et al. 2023, arXiv:2310.08442) for a velocity target.

    The paper weighs the error of the noise by 1 / sqrt(SNR) = t / (1-t). That error is (1-t)^2 times the velocity's.
    Zero at both ends, 1/4 in the middle, mean 1/6 over uniform times.
    """

    def weights(self, t: "Tensor") -> "Tensor":
        return t * (1 - t)
