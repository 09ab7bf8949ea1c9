"""Ranks chosen and judged on songs: every method, predicted and measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acetrain.analysis import ranks
from acetrain.analysis.bench import Bench
from acetrain.analysis.beside import Beside
from acetrain.analysis.each import for_each
from acetrain.analysis.moments import Moments, Predicted, predicted
from acetrain.analysis.pruning import METHODS, Budget, Evidence, Judged, Point, Pruned, Truncations, candidates, chosen
from acetrain.analysis.truncate import Decomposed, Seen, Truncation, truncations
from acetrain.tracking.counted import counted


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
        asked = [
            (method, by_module, rank)
            for method, by_module in found.items()
            for rank in _sizes(ranks.largest(candidates(by_module)), points)
        ]
        with counted("measuring sizes", len(asked)) as advance:
            for method, by_module, rank in asked:
                options = candidates(by_module)
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
