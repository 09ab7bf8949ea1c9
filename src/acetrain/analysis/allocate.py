"""Ranks shared out from one budget: what training is given to a module, and what pruning leaves it."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """What a module would gain from each rank, and what a rank costs it."""

    gains: Sequence[float]
    """Gain of the first rank, the second, and so on, such as squared singular values: at least 0. It ends with the
    largest rank that the module can have."""
    cost: int
    """Price of one rank, such as its outputs + inputs in parameters; above 0."""


def allocate(candidates: Mapping[str, Candidate], budget: float, least: int = 0) -> dict[str, int]:
    """The rank of each module under a total `budget`, every module given `least` ranks first.

    Ranks are taken one by one, the most gain per cost first, equal ones in the order of the candidates; a module's
    ranks come in their own order, and one that gains nothing is not taken. A rank that what is left cannot pay is
    passed over for cheaper ones. Where gains fall within each module and all cost the same no other choice of as many
    ranks gains more (greedy is exact for separable concave gains: Fox 1966, Discrete optimization via marginal
    analysis); where costs differ it gains at most the one rank that no longer fitted less than the best choice.

    Raises ValueError where `least` alone is beyond the budget or beyond what a module can have.
    """
    ranks = dict.fromkeys(candidates, least)
    left = budget - sum(least * candidate.cost for candidate in candidates.values())
    short = [name for name, candidate in candidates.items() if len(candidate.gains) < least]
    if left < 0 or short:
        raise ValueError(f"{least} ranks each are more than the {'budget' if left < 0 else 'ranks of ' + short[0]}")
    waiting = [entry for order, name in enumerate(candidates) if (entry := _next(candidates[name], order, name, least))]
    heapq.heapify(waiting)
    while waiting:
        _, order, name = heapq.heappop(waiting)
        candidate = candidates[name]
        if candidate.cost > left:
            continue
        ranks[name] += 1
        left -= candidate.cost
        if entry := _next(candidate, order, name, ranks[name]):
            heapq.heappush(waiting, entry)
    return ranks


def _next(candidate: Candidate, order: int, name: str, rank: int) -> tuple[float, int, str] | None:
    """A module's next rank as an entry of the queue; None where it has none that gains."""
    gain = candidate.gains[rank] if rank < len(candidate.gains) else 0.0
    return (-gain / candidate.cost, order, name) if gain > 0 else None


def falling(gains: Sequence[float]) -> list[float]:
    """The gains made to fall: where later ones are larger, all up to them get their mean.

    These are the slopes of the least concave majorant of their sum (pool adjacent violators: Barlow et al. 1972): ranks
    that only pay together are weighed by what they bring together, and the sum stays the same.
    """
    pools: list[tuple[float, int]] = []
    for gain in gains:
        total, count = gain, 1
        while pools and pools[-1][0] * count < total * pools[-1][1]:
            earlier, many = pools.pop()
            total, count = total + earlier, count + many
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


def spent(candidates: Mapping[str, Candidate], ranks: Mapping[str, int]) -> int:
    """What the ranks cost together."""
    return sum(candidates[name].cost * rank for name, rank in ranks.items())
