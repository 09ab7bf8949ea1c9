"""Ranks chosen for every module of an adapter, and what the choice keeps and costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from acetrain.adapters.updates import Updates
from acetrain.analysis import ranks
from acetrain.analysis.allocate import Candidate
from acetrain.analysis.each import for_each
from acetrain.analysis.moments import Predicted
from acetrain.analysis.truncate import Decomposed, Truncation, decompose, truncations
from acetrain.errors import Refused

METHODS = ("weights", "activations", "loss")
Truncations = Mapping[str, Truncation]
"""Module -> its best updates of every rank in one metric."""


@dataclass(frozen=True)
class Budget:
    """How much is kept."""

    kind: str
    """A key of `acetrain prune`, such as `rank` or `parameters`."""
    amount: float
    shared: bool
    """Whether all modules share it."""


@dataclass(frozen=True)
class Point:
    """One size of a method's curve."""

    method: str
    parameters: int
    predicted: float
    """Change of loss, by the moments of the songs that judge."""
    change: float
    """The same, measured."""


@dataclass(frozen=True)
class Judged:
    """Losses with the whole adapter, with the truncated one, and with none, of one set of songs."""

    songs: int
    whole: float
    truncated: float
    base: float

    @property
    def change(self) -> float:
        """What truncating costs."""
        return self.truncated - self.whole


@dataclass(frozen=True)
class Evidence:
    """What was predicted and measured of a choice."""

    predicted: Mapping[str, Mapping[str, Predicted]]
    """By set of songs, then by module, from the moments of the same songs."""
    measured: Mapping[str, float]
    """Change of loss where a module alone is truncated; empty where that was not asked for."""
    judged: Mapping[str, Judged]
    """By set of songs."""
    judged_on: str
    curve: Sequence[Point]


@dataclass(frozen=True)
class Pruned:
    """An adapter's updates, their best truncations in one metric, and the ranks that are kept."""

    method: str
    budget: Budget
    truncations: Truncations
    ranks: Mapping[str, int]
    """0 for a module that is left out."""
    evidence: Evidence | None = None

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """What each rank of a module keeps, and costs."""
        return candidates(self.truncations)

    @property
    def parameters(self) -> int:
        """Parameters of the result."""
        return ranks.cost(self.candidates, self.ranks)

    @property
    def retained(self) -> float:
        """Share of all squared singular values in the metric that is kept."""
        total = math.fsum(gain for one in self.candidates.values() for gain in one.gains)
        kept = (gain for name, one in self.candidates.items() for gain in one.gains[: self.ranks[name]])
        return math.fsum(kept) / total if total else 1.0


def decompositions(updates: Updates) -> dict[str, Decomposed]:
    """The singular vectors of every module's update. Raises Refused where the adapter does nothing at all."""
    found = for_each("decomposing", updates.names, lambda name: decompose(updates[name]))
    if not any(whole.rank for whole in found.values()):
        raise Refused(f"adapter_path: {updates.files.weights} changes nothing: the update of every module is zero")
    return found


def candidates(found: Truncations) -> dict[str, Candidate]:
    """What each rank of a module keeps in the metric, and what it costs."""
    return {name: Candidate(one.energies, one.whole.cost) for name, one in found.items()}


def prune(wholes: Mapping[str, Decomposed], method: str, budget: Budget, itemsize: int) -> Pruned:
    """Choose every module's rank by the weights alone."""
    found = for_each("choosing", wholes, lambda name: truncations(wholes[name]))
    return Pruned(method, budget, found, chosen(candidates(found), budget, itemsize))


def chosen(options: ranks.Candidates, budget: Budget, itemsize: int) -> dict[str, int]:
    """The ranks that a budget other than a measured one leads to. Raises Refused where it is too small."""
    if budget.kind in ("parameters", "bytes"):
        within = ranks.shared_within if budget.shared else ranks.common_within
        return within(options, budget.kind, int(budget.amount), itemsize if budget.kind == "bytes" else 1)
    if budget.shared:
        return ranks.shared_energy(options, budget.amount)
    return ranks.each(options, budget.kind, budget.amount)
