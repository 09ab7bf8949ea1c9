"""One budget of ranks: never exceeded, and the best there is where that can be known."""

import itertools
import random

import pytest

from acetrain.analysis.allocate import Candidate, allocate, falling, spent


def modules(draw: random.Random, count: int, most: int, costs: list[int]) -> dict[str, Candidate]:
    gains = [sorted((draw.random() ** 3 for _ in range(draw.randint(1, most))), reverse=True) for _ in range(count)]
    return {f"m{index}": Candidate(values, draw.choice(costs)) for index, values in enumerate(gains)}


def gained(candidates: dict[str, Candidate], ranks: dict[str, int]) -> float:
    return sum(sum(candidates[name].gains[:rank]) for name, rank in ranks.items())


def best(candidates: dict[str, Candidate], budget: float) -> float:
    """The most that any choice within the budget gains."""
    choices = itertools.product(*(range(len(candidate.gains) + 1) for candidate in candidates.values()))
    chosen = (dict(zip(candidates, choice, strict=True)) for choice in choices)
    return max(gained(candidates, ranks) for ranks in chosen if spent(candidates, ranks) <= budget)


@pytest.mark.parametrize("seed", range(20))
def test_at_equal_costs_no_other_choice_gains_more(seed: int) -> None:
    candidates = modules(random.Random(seed), 4, 4, [7])
    for budget in (0, 7, 20, 35, 200):
        ranks = allocate(candidates, budget)
        assert spent(candidates, ranks) <= budget
        assert gained(candidates, ranks) == pytest.approx(best(candidates, budget))


@pytest.mark.parametrize("seed", range(20))
def test_at_other_costs_it_loses_at_most_one_rank(seed: int) -> None:
    candidates = modules(random.Random(seed), 4, 4, [3, 5, 11])
    largest = max(candidate.gains[0] for candidate in candidates.values())
    for budget in (3, 12, 31, 60):
        ranks = allocate(candidates, budget)
        assert spent(candidates, ranks) <= budget
        assert gained(candidates, ranks) >= best(candidates, budget) - largest


def test_more_budget_takes_no_rank_away_at_equal_costs() -> None:
    candidates = modules(random.Random(1), 6, 8, [4])
    ranks = [allocate(candidates, budget) for budget in range(0, 200, 4)]
    for less, more in itertools.pairwise(ranks):
        assert all(more[name] >= less[name] for name in candidates)


def test_a_rank_that_gains_nothing_is_not_bought() -> None:
    candidates = {"noise": Candidate([0.0, 0.0], 1), "signal": Candidate([2.0, 1.0, 0.0], 1)}
    assert allocate(candidates, 100) == {"noise": 0, "signal": 2}
    assert allocate(candidates, 100, least=1) == {"noise": 1, "signal": 2}


def test_equal_gains_go_to_the_first() -> None:
    candidates = {name: Candidate([1.0], 2) for name in "abc"}
    assert allocate(candidates, 5) == {"a": 1, "b": 1, "c": 0}


def test_a_least_that_cannot_be_is_refused() -> None:
    candidates = {"a": Candidate([1.0, 1.0], 2), "b": Candidate([1.0], 2)}
    with pytest.raises(ValueError, match="budget"):
        allocate(candidates, 3, least=1)
    with pytest.raises(ValueError, match="ranks of b"):
        allocate(candidates, 100, least=2)


def chord(sums: list[float], left: int, right: int, place: int) -> float:
    """The line between two points of a curve, at a place between them."""
    share = (place - left) / (right - left) if right > left else 0.0
    return (1 - share) * sums[left] + share * sums[right]


@pytest.mark.parametrize("seed", range(10))
def test_falling_gains_are_the_slopes_of_the_least_concave_majorant(seed: int) -> None:
    draw = random.Random(seed)
    gains = [draw.choice([0.0, draw.random(), 1.0]) for _ in range(12)]
    sums = [0.0, *itertools.accumulate(gains)]
    majorant = [
        max(chord(sums, left, right, place) for left in range(place + 1) for right in range(place, len(sums)))
        for place in range(len(sums))
    ]
    assert [0.0, *itertools.accumulate(falling(gains))] == pytest.approx(majorant)


def test_gains_that_fall_stay_and_others_share() -> None:
    assert falling([3.0, 5.0, 1.0, 2.0, 0.0, 0.5]) == pytest.approx([4.0, 4.0, 1.5, 1.5, 0.25, 0.25])
    assert falling([4.0, 4.0, 2.0, 0.0]) == [4.0, 4.0, 2.0, 0.0]
    assert falling([]) == []
