"""How alike what two adapters add to a weight is, from the factors alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.analysis.truncate import Decomposed
from acetrain.errors import Refused


@dataclass(frozen=True)
class Likeness:
    """Two updates of one module; an update that is zero has cosine and overlaps 0."""

    norm_a: float
    """Frobenius norm of the first."""
    norm_b: float
    cosine: float
    """<A, B> / (|A| |B|), in [-1, 1]."""
    rank_a: int
    """Directions that are compared."""
    rank_b: int
    outputs: float
    """Overlap of what the updates write to: mean squared cosine of the principal angles between their column spaces,
    in [0, 1]; 1 where the smaller space lies in the larger (Björck and Golub 1973; φ of Hu et al. 2021, 7.2)."""
    inputs: float
    """The same of what they read from, their row spaces."""
    chance_outputs: float
    """Overlap of spaces drawn at random: the larger rank over the outputs."""
    chance_inputs: float
    product: float
    """<A, B>, which adds up over modules."""


@dataclass(frozen=True)
class Comparison:
    """Two adapters, module by module."""

    modules: Mapping[str, Likeness]
    only_a: Mapping[str, float]
    """Modules of the first alone -> norm of its update."""
    only_b: Mapping[str, float]

    @property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms over all modules of each."""
        a = math.hypot(*(one.norm_a for one in self.modules.values()), *self.only_a.values())
        b = math.hypot(*(one.norm_b for one in self.modules.values()), *self.only_b.values())
        return a, b

    @property
    def cosine(self) -> float:
        """Cosine of all updates as one vector; a module that only one has is zero in the other."""
        a, b = self.norms
        return math.fsum(one.product for one in self.modules.values()) / (a * b) if a and b else 0.0


def compare(first: Mapping[str, Decomposed], second: Mapping[str, Decomposed], rank: int | None = None) -> Comparison:
    """Compare two adapters; overlaps are of the `rank` largest directions of each, all of them where it is None.

    Raises Refused where no module is in both, and where one is of different shapes.
    """
    shared = [name for name in first if name in second]
    if not shared:
        raise Refused("adapter_paths: must have a module in common, these have none")
    modules = {name: likeness(name, first[name], second[name], rank) for name in shared}
    only_a, only_b = (
        {name: float(one.s.norm()) for name, one in these.items() if name not in those}
        for these, those in ((first, second), (second, first))
    )
    return Comparison(modules, only_a, only_b)


def likeness(name: str, a: Decomposed, b: Decomposed, rank: int | None) -> Likeness:
    """One module's two updates. Raises Refused where they are of different shapes."""
    shapes = [(len(one.u), len(one.v)) for one in (a, b)]
    if shapes[0] != shapes[1]:
        raise Refused(
            f"adapter_paths: must be of one base, {official(name)} is {list(shapes[0])} and {list(shapes[1])} in them"
        )
    outputs, inputs = a.u.T @ b.u, a.v.T @ b.v
    product = float((a.s[:, None] * outputs * inputs * b.s).sum())
    norms = float(a.s.norm()), float(b.s.norm())
    cosine = product / (norms[0] * norms[1]) if all(norms) else 0.0
    rank_a, rank_b = (one.rank if rank is None else min(rank, one.rank) for one in (a, b))
    largest = max(rank_a, rank_b) if rank_a and rank_b else 0
    return Likeness(
        norm_a=norms[0],
        norm_b=norms[1],
        cosine=max(-1.0, min(1.0, cosine)),
        rank_a=rank_a,
        rank_b=rank_b,
        outputs=overlap(outputs[:rank_a, :rank_b]),
        inputs=overlap(inputs[:rank_a, :rank_b]),
        chance_outputs=largest / len(a.u),
        chance_inputs=largest / len(a.v),
        product=product,
    )


def overlap(cosines: Float[Tensor, "a b"]) -> float:
    """|Q_a'Q_b|^2 over the smaller rank, from the products of two orthonormal bases."""
    smaller = min(cosines.shape)
    return min(1.0, float(cosines.square().sum()) / smaller) if smaller else 0.0
