"""Which timesteps a run trains on: each option is a density, given by its quantile function."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Timesteps:
    """A density over t in [0, 1]; t = 1 is noise."""

    def quantile(self, u: "Tensor") -> "Tensor":
        """The t below which a share u in (0, 1) of the draws lies; same shape and dtype as u."""
        raise NotImplementedError

    def fitted(self, said: Mapping[str, float]) -> "Timesteps":
        """The density with what it leaves to the checkpoint as `said` there: `timestep_mu`, `timestep_sigma`."""
        return self


MEAN, STD = -0.4, 1.0
"""What the official configurations say; the diffusers layout says nothing."""


@dataclass
class Acestep(Timesteps):
    """The model's own density: the larger of two logit-normal draws (upstream `sample_t_r`)."""

    mean: float | None
    """Location of logit(t) of each draw; null for what the checkpoint's configuration says, or else -0.4."""
    std: float | None
    """Spread of logit(t) of each draw, above 0; null for what the checkpoint's configuration says, or else 1."""

    def __post_init__(self) -> None:
        require(self.std is None or self.std > 0, "timesteps.std", "above 0, or null", self.std)

    def quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import larger_logit_normal

        return larger_logit_normal(u, MEAN if self.mean is None else self.mean, STD if self.std is None else self.std)

    def fitted(self, said: Mapping[str, float]) -> "Timesteps":
        mean = said.get("timestep_mu", MEAN) if self.mean is None else self.mean
        return replace(self, mean=mean, std=said.get("timestep_sigma", STD) if self.std is None else self.std)


@dataclass
class Uniform(Timesteps):
    """Every t in (0, 1) alike."""

    def quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import uniform

        return uniform(u)


@dataclass
class Discrete(Timesteps):
    """Only the times at which a sampler evaluates the model: turbo's are shift 3 on 8 steps."""

    steps: int
    """Number of sampling steps, at least 1."""
    shift: float
    """Shift of the sampling schedule, above 0; 1 is an even spacing."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "timesteps.steps", "at least 1", self.steps)
        require(self.shift > 0, "timesteps.shift", "above 0", self.shift)

    def quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import discrete

        return discrete(u, self.steps, self.shift)
