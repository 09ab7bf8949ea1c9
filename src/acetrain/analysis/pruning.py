"""Ranks chosen for every module of an adapter, and what the choice keeps and costs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from acetrain.adapters.updates import Updates
from acetrain.analysis import ranks
from acetrain.analysis.allocate import Candidate
from acetrain.analysis.bench import Bench
from acetrain.analysis.beside import Beside
from acetrain.analysis.each import for_each
from acetrain.analysis.statistics import Moments, Predicted, predicted
from acetrain.analysis.truncate import Decomposed, Seen, Truncation, decompose, truncations
from acetrain.errors import Refused
from acetrain.tracking.counted import counted

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
        return math.fsum(kept) / total


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


def prune_on(
    bench: Bench, wholes: Mapping[str, Decomposed], method: str, budget: Budget, itemsize: int, points: int, each: bool
) -> Pruned:
    """Choose every module's rank by any method, and measure the choice and `points` sizes of every method.

    With `each`, every module is also truncated alone.
    """
    with counted("observing", len(bench.training) + len(bench.held_out)) as advance:
        moments = {songs: bench.moments(wholes, songs, advance) for songs in bench.sets}
    shown = moments["training"]
    found = {
        kind: for_each(f"by {kind}", wholes, lambda name, kind=kind: seen_by(kind, wholes[name], shown[name]))
        for kind in METHODS
    }
    beside, options = Beside(wholes), candidates(found[method])
    with beside.added_to(bench.objective.dit):
        trial = Trial(bench, beside, wholes)
        if budget.kind == "max_loss_increase":
            taken = trial.smallest(found[method], budget)
        else:
            taken = chosen(options, budget, itemsize)
        evidence = Evidence(
            {songs: changes(found[method], seen, taken) for songs, seen in moments.items()},
            trial.alone(found[method], taken) if each else {},
            {songs: trial.judged(found[method], taken, songs) for songs in bench.sets},
            bench.judged_on,
            trial.curve(found, moments[bench.judged_on], budget.shared, points),
        )
    return Pruned(method, budget, found[method], taken, evidence)


def changes(found: Truncations, seen: Mapping[str, Moments], taken: Mapping[str, int]) -> dict[str, Predicted]:
    """What each module's rank is predicted to change."""
    return {name: predicted(one, seen[name], taken[name]) for name, one in found.items()}


def seen_by(method: str, whole: Decomposed, moments: Moments) -> Truncation:
    """A module's best updates of every rank by a method."""
    seen = moments.seen(whole.s)
    return truncations(whole, {"weights": None, "activations": Seen(seen.inputs), "loss": seen}[method])


def truncated(found: Truncations, taken: Mapping[str, int]) -> dict[str, Decomposed]:
    """The updates at these ranks; those at rank 0 are left out."""
    return {name: found[name].at(rank) for name, rank in taken.items() if rank}


@dataclass(frozen=True)
class Trial:
    """Truncated updates in place of the whole ones, judged on a bench."""

    bench: Bench
    beside: Beside
    wholes: Mapping[str, Decomposed]

    def loss(self, found: Truncations, taken: Mapping[str, int], songs: str = "") -> float:
        """Loss with the updates at these ranks."""
        return self.bench.loss(self.beside, truncated(found, taken), songs)

    def judged(self, found: Truncations, taken: Mapping[str, int], songs: str) -> Judged:
        """Losses of one set of songs."""
        whole, base = (self.bench.loss(self.beside, updates, songs) for updates in (self.wholes, {}))
        return Judged(len(getattr(self.bench, songs)), whole, self.loss(found, taken, songs), base)

    def alone(self, found: Truncations, taken: Mapping[str, int]) -> dict[str, float]:
        """What truncating each module alone changes."""
        whole, alone = self.bench.loss(self.beside, self.wholes), {}
        with counted("measuring modules", len(found)) as advance:
            for name, rank in taken.items():
                others = {other: one for other, one in self.wholes.items() if other != name}
                alone[name] = self.bench.loss(self.beside, others | truncated(found, {name: rank})) - whole
                advance()
        return alone

    def smallest(self, found: Truncations, budget: Budget) -> dict[str, int]:
        """The fewest ranks, on the path of the allocation, whose loss is at most `budget.amount` above the whole's."""
        options = candidates(found)
        most = self.bench.loss(self.beside, self.wholes) + budget.amount
        order = ranks.path(options)

        def at(count: int) -> dict[str, int]:
            return ranks.along(options, order, count) if budget.shared else ranks.common(options, count)

        count = len(order) if budget.shared else ranks.largest(options)
        with counted("searching", math.ceil(math.log2(max(count, 2)))) as advance:
            return at(fewest(count, lambda tried: self.loss(found, at(tried)) <= most, advance))

    def curve(
        self, found: Mapping[str, Truncations], moments: Mapping[str, Moments], shared: bool, points: int
    ) -> list[Point]:
        """Every method at `points` sizes from a rank for each module up to all of them."""
        curve, whole = [], self.bench.loss(self.beside, self.wholes)
        with counted("measuring sizes", points * len(found)) as advance:
            for method, by_module in found.items():
                options = candidates(by_module)
                for rank in _sizes(ranks.largest(options), points):
                    taken = ranks.common(options, rank)
                    if shared:
                        taken = ranks.shared_within(options, "parameters", ranks.cost(options, taken), 1)
                    expected = sum(one.total for one in changes(by_module, moments, taken).values())
                    change = self.loss(by_module, taken) - whole
                    curve.append(Point(method, ranks.cost(options, taken), expected, change))
                    advance()
        return curve


def fewest(count: int, holds: Callable[[int], bool], advance: Callable[[], None]) -> int:
    """The least number up to `count`, for which it holds as for all above, by bisection: what is returned holds."""
    low, high = 1, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
        advance()
    return high


def _sizes(largest: int, points: int) -> list[int]:
    """Ranks from 1 to `largest`, evenly spread over their logarithm."""
    steps = [step / (points - 1) for step in range(points)] if points > 1 else [0.5] * points
    return sorted({round(largest**step) for step in steps})


def chosen(options: ranks.Candidates, budget: Budget, itemsize: int) -> dict[str, int]:
    """The ranks that a budget other than a measured one leads to. Raises Refused where it is too small."""
    if budget.kind in ("parameters", "bytes"):
        within = ranks.shared_within if budget.shared else ranks.common_within
        return within(options, budget.kind, int(budget.amount), itemsize if budget.kind == "bytes" else 1)
    if budget.shared:
        return ranks.shared_energy(options, budget.amount)
    return ranks.each(options, budget.kind, budget.amount)
