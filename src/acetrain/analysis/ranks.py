"""Ranks from a budget: module by module, or from one budget that all share."""

import math
from collections.abc import Mapping, Sequence

from acetrain.analysis.allocate import Candidate, allocate
from acetrain.errors import Refused

Candidates = Mapping[str, Candidate]
"""Modules by name: squared singular values, falling, and the parameters of a rank."""


def fixed(values: Sequence[float], rank: float) -> int:
    """The rank itself."""
    return int(rank)


def by_ratio(values: Sequence[float], ratio: float) -> int:
    """Singular values above the largest over `ratio` (kohya's sv_ratio)."""
    return sum(value > values[0] / ratio for value in values)


def by_sum(values: Sequence[float], share: float) -> int:
    """The fewest whose sum is at least `share` of all (kohya's sv_cumulative)."""
    return fewest(values, share)


def by_norm(values: Sequence[float], share: float) -> int:
    """The fewest whose Frobenius norm is at least `share` of the whole one (kohya's sv_fro)."""
    return by_energy(values, share * share)


def by_energy(values: Sequence[float], share: float) -> int:
    """The fewest whose squares sum to at least `share` of all."""
    return fewest([value * value for value in values], share)


EACH = {"rank": fixed, "sv_ratio": by_ratio, "sv_cumulative": by_sum, "sv_fro": by_norm, "energy": by_energy}
"""Budgets of a single module -> how many of its singular values they keep."""


def fewest(amounts: Sequence[float], share: float) -> int:
    """The least count of the first `amounts` that sums to at least `share` of all, but for rounding."""
    target, held = share * math.fsum(amounts) * (1 - 1e-12), 0.0
    for count, amount in enumerate(amounts):
        if held >= target:
            return count
        held += amount
    return len(amounts)


def each(candidates: Candidates, budget: str, amount: float) -> dict[str, int]:
    """The rank of each module by a budget of its own: at least 1 and at most what it has."""
    kept = EACH[budget]
    found = {}
    for name, candidate in candidates.items():
        values = [math.sqrt(gain) for gain in candidate.gains]
        found[name] = max(1, min(len(values), kept(values, amount) if values else 1))
    return found


def common(candidates: Candidates, rank: int) -> dict[str, int]:
    """The same rank for all, or what a module has where that is less; at least 1."""
    return {name: max(1, min(rank, len(candidate.gains))) for name, candidate in candidates.items()}


def cost(candidates: Candidates, ranks: Mapping[str, int]) -> int:
    """Parameters of an adapter with these ranks."""
    return sum(candidate.cost * ranks[name] for name, candidate in candidates.items())


def largest(candidates: Candidates) -> int:
    """The largest rank that any module has."""
    return max(1, *(len(candidate.gains) for candidate in candidates.values()))


def common_within(candidates: Candidates, budget: str, amount: int, size: int) -> dict[str, int]:
    """The largest common rank that costs at most `amount`, a parameter costing `size`.

    Raises Refused, naming `budget`, where one rank for each costs more.
    """
    least = size * cost(candidates, common(candidates, 1))
    if amount < least:
        raise Refused(
            f"{budget}: must be at least {least}, one rank for each of {len(candidates)} modules, got {amount}; "
            "allocate=global may leave modules out"
        )
    low, high = 1, largest(candidates)
    while low < high:
        middle = (low + high + 1) // 2
        fits = size * cost(candidates, common(candidates, middle)) <= amount
        low, high = (middle, high) if fits else (low, middle - 1)
    return common(candidates, low)


def shared_within(candidates: Candidates, budget: str, amount: int, size: int) -> dict[str, int]:
    """Ranks that share `amount`, by gain per parameter. Raises Refused where it pays no rank that gains."""
    least = size * min(candidate.cost for candidate in candidates.values() if any(candidate.gains))
    if amount < least:
        raise Refused(f"{budget}: must be at least {least}, the cheapest module's first rank, got {amount}")
    return allocate(candidates, amount // size)


def path(candidates: Candidates) -> list[str]:
    """Modules in the order in which a growing shared budget gives them ranks: the most gain per parameter first."""
    steps = [
        (-gain / candidate.cost, order, name)
        for order, (name, candidate) in enumerate(candidates.items())
        for gain in candidate.gains
        if gain > 0
    ]
    return [name for _, _, name in sorted(steps)]


def along(candidates: Candidates, order: Sequence[str], steps: int) -> dict[str, int]:
    """Ranks after the first `steps` of a path."""
    ranks = dict.fromkeys(candidates, 0)
    for name in order[:steps]:
        ranks[name] += 1
    return ranks


def shared_energy(candidates: Candidates, share: float) -> dict[str, int]:
    """The first ranks on the path that hold `share` of all squared singular values together."""
    order, taken = path(candidates), dict.fromkeys(candidates, 0)
    gains = []
    for name in order:
        gains.append(candidates[name].gains[taken[name]])
        taken[name] += 1
    return along(candidates, order, max(1, fewest(gains, share)))
