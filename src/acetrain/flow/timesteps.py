"""Which timesteps a run trains on: each option is a density, given by its quantile function and its CDF."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SHARE = 1e-4
"""Share of the density that [low, high] must hold: below it, rounding of u would show in the draws."""
ROUNDING = 1e-9
"""How far beyond `low` or `high` a level of the discrete density may lie."""


@dataclass
class Timesteps:
    """A density over t in [0, 1]; t = 1 is noise. It is shifted first, then taken conditional on [low, high]."""

    shift: float
    """Moves t to shift*t / (1 + (shift-1)*t), towards noise above 1; above 0, 1 leaves t as it is."""
    low: float
    """Smallest t drawn. The density is the one conditional on [low, high]: no mass piles up at the ends."""
    high: float
    """Largest t drawn, above `low`, at most 1."""
    stratified: bool
    """Spread the draws of an epoch evenly over the density (golden-ratio sequence) instead of independently: each has
    the same law, their mean less variance."""

    def __post_init__(self) -> None:
        require(0 < self.shift < math.inf, "timesteps.shift", "above 0 and finite", self.shift)
        require(0 <= self.low < 1, "timesteps.low", "in [0, 1)", self.low)
        require(self.low < self.high <= 1, "timesteps.high", f"above low ({self.low:g}), at most 1", self.high)
        if self.settled:
            self.check_interval()

    def check_interval(self) -> None:
        """Raise Refused where [low, high] holds too little of the density to be drawn from."""
        share = self.cdf(self.high) - self.cdf(self.low)
        rule = f"such that low..high holds at least {LEAST_SHARE:g} of the density (it holds {share:.2g})"
        require(share >= LEAST_SHARE, *self._narrower_end(rule))

    def _narrower_end(self, rule: str) -> tuple[str, str, float]:
        """Key, rule and value of the end of the interval that is not its default."""
        return ("timesteps.low", rule, self.low) if self.low > 0 else ("timesteps.high", rule, self.high)

    def base_quantile(self, u: "Tensor") -> "Tensor":
        """The t below which a share u in [0, 1] of the density lies before shift and interval; shape and dtype of u."""
        raise NotImplementedError

    def base_cdf(self, t: float) -> float:
        """The share below t, for t in (0, 1): what `base_quantile` inverts."""
        raise NotImplementedError

    def quantile(self, u: "Tensor") -> "Tensor":
        """The t below which a share u in [0, 1] of the draws lies; same shape and dtype as u."""
        from acetrain.flow.densities import shifted

        below, above = self.cdf(self.low), self.cdf(self.high)
        t = shifted(self.base_quantile(below + u * (above - below)), self.shift)
        return t.clamp(self.low, self.high)  # only rounding leaves the interval

    def cdf(self, t: float) -> float:
        """The share of the shifted density below t, before the interval is taken."""
        unshifted = t / (self.shift - (self.shift - 1) * t)
        return self.base_cdf(unshifted) if 0 < unshifted < 1 else float(unshifted >= 1)

    @property
    def followed_bins(self) -> int:
        """Bins of equal mass whose running losses say how often they are drawn; 0 where the density stays."""
        return 0

    def aimed(self, u: "Tensor", running: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
        """Where to draw for uniform u [song] by the running losses, with what weight, and in which bin."""
        return u, u.new_ones(u.shape), u.new_zeros(u.shape).long()

    def followed(self, running: "Tensor", lost: "Tensor", songs: "Tensor") -> "Tensor":
        """The running losses after a step in which `songs` [bin] songs lost `lost` [bin] together."""
        return running

    @property
    def settled(self) -> bool:
        """Whether nothing of the density is left to the checkpoint."""
        return True

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
        require(self.mean is None or math.isfinite(self.mean), "timesteps.mean", "finite, or null", self.mean)
        known = self.std is None or 0 < self.std < math.inf
        require(known, "timesteps.std", "above 0 and finite, or null", self.std)
        super().__post_init__()

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import larger_logit_normal

        return larger_logit_normal(u, *self._moments)

    def base_cdf(self, t: float) -> float:
        return _logit_normal_cdf(t, *self._moments) ** 2

    @property
    def settled(self) -> bool:
        return self.mean is not None and self.std is not None

    def fitted(self, said: Mapping[str, float]) -> "Timesteps":
        mean = said.get("timestep_mu", MEAN) if self.mean is None else self.mean
        return replace(self, mean=mean, std=said.get("timestep_sigma", STD) if self.std is None else self.std)

    @property
    def _moments(self) -> tuple[float, float]:
        return MEAN if self.mean is None else self.mean, STD if self.std is None else self.std


def native(said: Mapping[str, float]) -> Timesteps:
    """The density a model was trained with, given what its checkpoint says of it."""
    return Acestep(shift=1.0, low=0.0, high=1.0, stratified=False, mean=None, std=None).fitted(said)


@dataclass
class LogitNormal(Timesteps):
    """Logit-normal density: most draws in the middle (Esser et al. 2024, section 3.1, arXiv:2403.03206)."""

    mean: float
    """Location of logit(t); 0 is symmetric, negative values favour data, positive ones noise."""
    std: float
    """Spread of logit(t), above 0; smaller ones gather t around sigmoid(mean)."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.mean), "timesteps.mean", "finite", self.mean)
        require(0 < self.std < math.inf, "timesteps.std", "above 0 and finite", self.std)
        super().__post_init__()

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import logit_normal

        return logit_normal(u, self.mean, self.std)

    def base_cdf(self, t: float) -> float:
        return _logit_normal_cdf(t, self.mean, self.std)


@dataclass
class Uniform(Timesteps):
    """Every t in (0, 1) alike."""

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import uniform

        return uniform(u)

    def base_cdf(self, t: float) -> float:
        return t


STEEPEST = 2 / (math.pi - 2)
"""Largest scale at which the mode density's quantile function still ascends."""


@dataclass
class Mode(Timesteps):
    """Mode density with heavy tails: no t becomes rare (Esser et al. 2024, section 3.1, arXiv:2403.03206)."""

    scale: float
    """-1 to 2/(pi-2), about 1.75: above 0 favours the middle, below 0 the ends, 0 is uniform."""

    def __post_init__(self) -> None:
        require(-1 <= self.scale <= STEEPEST, "timesteps.scale", "from -1 to 1.7519, which is 2/(pi-2)", self.scale)
        super().__post_init__()

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import mode

        return mode(u, self.scale)

    def base_cdf(self, t: float) -> float:
        """By bisection down to neighbouring numbers: the quantile function has no inverse in closed form."""
        low, high = 0.0, 1.0
        while low < (middle := (low + high) / 2) < high:
            below = middle - self.scale * (math.sin(math.pi * middle / 2) ** 2 - middle) < t
            low, high = (middle, high) if below else (low, middle)
        return high


@dataclass
class Cosmap(Timesteps):
    """CosMap density: the cosine schedule's log-SNR on the straight path (Esser et al. 2024, arXiv:2403.03206)."""

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import cosmap

        return cosmap(u)

    def base_cdf(self, t: float) -> float:
        return 2 / math.pi * math.atan2(t, 1 - t)


@dataclass
class Beta(Timesteps):
    """Beta density: t^(a-1) (1-t)^(b-1) up to a constant."""

    a: float
    """Exponent at the data end, above 0; larger ones keep t away from 0."""
    b: float
    """Exponent at the noise end, above 0; larger ones keep t away from 1."""

    def __post_init__(self) -> None:
        for key in ("a", "b"):
            value = getattr(self, key)
            require(0 < value < math.inf, f"timesteps.{key}", "above 0 and finite", value)
        super().__post_init__()

    def base_quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import beta

        return beta(u, self.a, self.b)

    def base_cdf(self, t: float) -> float:
        from scipy.special import betainc

        return float(betainc(self.a, self.b, t))


@dataclass
class Discrete(Timesteps):
    """Only the times at which a sampler evaluates the model: turbo's are shift 3 on 8 steps."""

    steps: int
    """Number of sampling steps, at least 1; those whose times lie in [low, high] are drawn, all alike."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "timesteps.steps", "at least 1", self.steps)
        super().__post_init__()

    def check_interval(self) -> None:
        nearest = min(self._schedule, key=lambda level: max(self.low - level, level - self.high))
        rule = f"such that low..high holds one of the sampler's times (nearest: {nearest:.4g})"
        require(bool(self.levels), *self._narrower_end(rule))

    def quantile(self, u: "Tensor") -> "Tensor":
        from acetrain.flow.densities import discrete

        return discrete(u, u.new_tensor(self.levels))

    @property
    def levels(self) -> list[float]:
        """The times that are drawn, ascending."""
        return [level for level in self._schedule if self.low - ROUNDING <= level <= self.high + ROUNDING]

    @property
    def _schedule(self) -> list[float]:
        even = (step / self.steps for step in range(1, self.steps + 1))
        return [self.shift * t / (1 + (self.shift - 1) * t) for t in even]


def _logit_normal_cdf(t: float, mean: float, std: float) -> float:
    return math.erfc((mean - math.log(t / (1 - t))) / std / math.sqrt(2)) / 2
