"""Ranks chosen for every module of an adapter, and what the choice keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from acetrain.adapters.updates import Updates
from acetrain.analysis import ranks
from acetrain.analysis.allocate import Candidate
from acetrain.analysis.each import for_each
from acetrain.analysis.truncate import Decomposed, Truncation, decompose, truncations
from acetrain.errors import Refused


@dataclass(frozen=True)
class Budget:
    """How much is kept."""

    kind: str
    """A key of `acetrain prune`, such as `rank` or `parameters`."""
    amount: float
    shared: bool
    """Whether all modules share it."""


@dataclass(frozen=True)
class Pruned:
    """An adapter's updates, their best truncations in one metric, and the ranks that are kept."""

    method: str
    budget: Budget
    truncations: Mapping[str, Truncation]
    ranks: Mapping[str, int]
    """0 for a module that is left out."""

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
        total = sum(sum(candidate.gains) for candidate in self.candidates.values())
        kept = sum(sum(candidate.gains[: self.ranks[name]]) for name, candidate in self.candidates.items())
        return kept / total


def decompositions(updates: Updates) -> dict[str, Decomposed]:
    """The singular vectors of every module's update. Raises Refused where the adapter does nothing at all."""
    found = for_each("decomposing", updates.names, lambda name: decompose(updates[name]))
    if not any(whole.rank for whole in found.values()):
        raise Refused(f"adapter_path: {updates.files.weights} changes nothing: the update of every module is zero")
    return found


def candidates(found: Mapping[str, Truncation]) -> dict[str, Candidate]:
    """What each rank of a module keeps in the metric, and what it costs."""
    return {name: Candidate(one.energies, one.whole.cost) for name, one in found.items()}


def prune(updates: Updates, method: str, budget: Budget) -> Pruned:
    """Choose every module's rank."""
    wholes = decompositions(updates)
    found = {name: truncations(whole) for name, whole in wholes.items()}
    return Pruned(method, budget, found, chosen(candidates(found), budget, updates.dtype.itemsize))


def chosen(options: ranks.Candidates, budget: Budget, itemsize: int) -> dict[str, int]:
    """The ranks that a budget other than a measured one leads to. Raises Refused where it is too small."""
    if budget.kind in ("parameters", "bytes"):
        within = ranks.shared_within if budget.shared else ranks.common_within
        return within(options, budget.kind, int(budget.amount), itemsize if budget.kind == "bytes" else 1)
    if budget.shared:
        return ranks.shared_energy(options, budget.amount)
    return ranks.each(options, budget.kind, budget.amount)
