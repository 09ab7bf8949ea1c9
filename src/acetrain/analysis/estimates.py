"""How much the mean gradient of a module promises, from sums over two halves of the visits.

A fresh adapter of rank r lowers the loss, to first order and for a step of norm eps, by at most
eps sqrt(sigma_1^2 + ... + sigma_r^2), sigma the singular values of the *mean* gradient G. An estimate of G is G plus
noise, whose energy adds to every value. Two halves a and b have independent noise: <G_a, G_b> has the mean |G|^2, and
u_i' G_b v_i along the singular vectors of G_a falls to zero where these are noise. All in fp64.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from acetrain.analysis.sizes import SCALARS
from acetrain.analysis.sketch import Signs, Sum, inner, read

CONFIDENCE = 0.95
BASELINES = ("fisher", "gradient_norm", "weight_gradient", "nfn", "naive")
"""E|g|^2 and E|g| over visits, the sum of |W * G|, the normalised feature norm, and |G|^2 with its noise."""

Groups = Float[Tensor, "group p q"]


@dataclass(frozen=True)
class Half:
    """What one half of the visits gave for one module."""

    total: Sum
    groups: Groups
    """Projection of each group's part of the total; they sum to the total's."""
    shares: Float[Tensor, " group"]
    """Weight of each group in the total, summing to 1."""
    scalars: Mapping[str, float]

    @classmethod
    def of(cls, tensors: Sequence[Mapping[str, Tensor]], shares: Sequence[float], signs: Signs) -> "Half":
        """The mean over bins of what was added up in each."""
        mean = {name: torch.stack([one[name].double() for one in tensors]).mean(0) for name in tensors[0]}
        scalars = {name: float(value) for name, value in zip(SCALARS, mean["scalars"], strict=True)}
        return cls(read(mean, signs), mean["groups"], torch.tensor(shares, dtype=torch.float64), scalars)


@dataclass(frozen=True)
class Estimate:
    """What is known about a module, in one bin or in all."""

    score: float
    """<G_a, G_b>: the squared norm of the mean gradient without bias, so that it can be negative."""
    error: float | None
    """Its standard error by the jackknife; None where a half has a single group."""
    interval: tuple[float, float] | None
    """Student interval of `CONFIDENCE`."""
    spectrum: list[float]
    """Singular values of one half's mean gradient along the directions of the other's, halves swapped and averaged."""
    baselines: dict[str, float] = field(default_factory=dict)
    """By the names of `BASELINES`."""


def estimate(a: Half, b: Half, weight: Float[Tensor, "output input"], rank_max: int) -> Estimate:
    """Score, interval, spectrum and baselines of a module with this weight."""
    score = inner(a.total, b.total)
    error, freedom = jackknife(a, b)
    interval = None
    if error is not None:
        reach = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error if error else 0.0
        interval = (score - reach, score + reach)
    return Estimate(score, error, interval, spectrum(a.total, b.total, rank_max), _baselines(a, b, score, weight))


def jackknife(a: Half, b: Half) -> tuple[float | None, float]:
    """Standard error of <G_a, G_b> and its degrees of freedom, by leaving out one group of either half after another.

    For groups of unequal shares the pseudo-values of Busing, Meijer, van der Leeden 1999; over two halves the variances
    add up (Arvesen 1969). That counts twice what pairs of groups have in common beside either's own part (Efron, Stein
    1981), so it is taken off once; at most half of the variance can be that. Degrees of freedom by Satterthwaite. None
    and 0 where a half has a single group.
    """
    if min(len(a.shares), len(b.shares)) < 2:
        return None, 0.0
    pairs = (a.groups.flatten(1) / a.shares[:, None]) @ (b.groups.flatten(1) / b.shares[:, None]).T
    of_a, of_b = (pairs @ b.shares)[:, None], (a.shares @ pairs)[None, :]
    score = a.shares @ pairs @ b.shares
    odds_a, odds_b = (1 / a.shares - 1)[:, None], (1 / b.shares - 1)[None, :]
    variances = [float(((of - score) ** 2 / odds).mean()) for of, odds in ((of_a, odds_a), (of_b, odds_b))]
    common = float(((pairs - of_a - of_b + score) ** 2 / (odds_a * odds_b)).mean())
    total = sum(variances)
    if not total > 0:
        return 0.0, math.inf
    counts = (len(a.shares), len(b.shares))
    freedom = total**2 / sum(one**2 / (count - 1) for one, count in zip(variances, counts, strict=True))
    return math.sqrt(max(total - common, total / 2)), freedom


def spectrum(a: Sum, b: Sum, rank_max: int) -> list[float]:
    """u_i' G_b v_i with the singular vectors of G_a, averaged with the halves swapped; 0 beyond a half's rank."""
    values = torch.zeros(2, rank_max, dtype=torch.float64)
    for row, (one, other) in zip(values, ((a, b), (b, a)), strict=True):
        left, right = one.directions(rank_max)
        row[: left.shape[1]] = other.along(left, right)
    return values.mean(0).tolist()


def _baselines(a: Half, b: Half, score: float, weight: Float[Tensor, "output input"]) -> dict[str, float]:
    means = {name: (a.scalars[name] + b.scalars[name]) / 2 for name in SCALARS}
    mean = (a.total.dense() + b.total.dense()) / 2
    return {
        "fisher": means["square"],
        "gradient_norm": means["norm"],
        "weight_gradient": float((weight * mean).abs().sum()),
        "nfn": means["feature"],
        "naive": (inner(a.total, a.total) + inner(b.total, b.total) + 2 * score) / 4,
    }
