"""Ranks from budgets: kohya's meanings without its errors, shared budgets by gain for a parameter."""

import math

import numpy as np
import pytest

from acetrain.analysis import ranks
from acetrain.analysis.allocate import Candidate
from acetrain.analysis.pruning import Budget, chosen
from acetrain.analysis.trials import fewest
from acetrain.errors import Refused

VALUES = [8.0, 4.0, 2.0, 1.0, 1.0]
DRAW = np.random.default_rng(0)
OPTIONS = {
    name: Candidate(sorted((DRAW.exponential(size=count) * scale).tolist(), reverse=True), cost)
    for name, count, scale, cost in (("a", 6, 1.0, 10), ("b", 4, 5.0, 20), ("c", 8, 0.2, 5), ("zero", 0, 1.0, 7))
}


@pytest.mark.parametrize(
    ("budget", "amount", "kept"),
    [
        ("rank", 3, 3),
        ("rank", 9, 5),
        ("sv_ratio", 4, 2),  # above 2, not 2 itself
        ("sv_ratio", 4.01, 3),
        ("sv_ratio", 1.5, 1),
        ("sv_cumulative", 0.5, 1),  # 8 of 16 exactly
        ("sv_cumulative", 0.51, 2),
        ("sv_cumulative", 0.75, 2),
        ("sv_cumulative", 1, 5),
        ("sv_fro", math.sqrt(80 / 86), 2),
        ("sv_fro", 0.97, 3),
        ("energy", 80 / 86, 2),
        ("energy", 0.97, 3),
        ("energy", 1, 5),
        ("energy", 1e-6, 1),
    ],
)
def test_a_budget_of_each_module_keeps_so_many(budget: str, amount: float, kept: int) -> None:
    options = {"a": Candidate([value * value for value in VALUES], 3)}
    assert chosen(options, Budget(budget, amount, shared=False), 4) == {"a": kept}


def test_of_a_module_without_singular_values_one_rank_is_kept() -> None:
    for budget in ranks.EACH:
        assert chosen({"a": Candidate([], 3)}, Budget(budget, 1, shared=False), 4) == {"a": 1}


@pytest.mark.parametrize("parameters", [42, 43, 100, 171, 180, 9999])
def test_a_common_rank_is_the_largest_that_fits(parameters: int) -> None:
    taken = chosen(OPTIONS, Budget("parameters", parameters, shared=False), 4)
    assert ranks.cost(OPTIONS, taken) <= parameters
    larger = ranks.common(OPTIONS, max(taken.values()) + 1)
    assert larger == taken or ranks.cost(OPTIONS, larger) > parameters
    assert chosen(OPTIONS, Budget("bytes", 2 * parameters + 1, shared=False), 2) == taken


def test_a_budget_below_one_rank_each_is_refused_unless_modules_may_go() -> None:
    with pytest.raises(
        Refused, match=r"parameters: must be at least 42, one rank for each of 4 modules, got 41; alloc"
    ):
        chosen(OPTIONS, Budget("parameters", 41, shared=False), 4)
    assert ranks.cost(OPTIONS, chosen(OPTIONS, Budget("parameters", 41, shared=True), 4)) <= 41
    with pytest.raises(Refused, match="bytes: must be at least 20, the cheapest module's first rank, got 19"):
        chosen(OPTIONS, Budget("bytes", 19, shared=True), 4)


def test_a_shared_budget_that_pays_only_modules_that_gain_nothing_is_refused() -> None:
    options = {"zero": Candidate([], 3), "moved": Candidate([1.0], 10)}
    with pytest.raises(Refused, match="parameters: must be at least 10, the cheapest module's first rank, got 9"):
        chosen(options, Budget("parameters", 9, shared=True), 4)
    assert chosen(options, Budget("parameters", 10, shared=True), 4) == {"zero": 0, "moved": 1}


def test_shared_energy_takes_the_fewest_of_the_path() -> None:
    total = sum(sum(one.gains) for one in OPTIONS.values())
    order = ranks.path(OPTIONS)
    assert len(order) == 18
    for share in (0.2, 0.5, 0.9, 1.0):
        taken = chosen(OPTIONS, Budget("energy", share, shared=True), 4)
        steps = sum(taken.values())

        def kept(count: int) -> float:
            found = ranks.along(OPTIONS, order, count)
            return sum(sum(one.gains[: found[name]]) for name, one in OPTIONS.items()) / total

        assert taken == ranks.along(OPTIONS, order, steps)
        assert kept(steps) >= share - 1e-9 > kept(steps - 1) - 1e-9


def test_the_path_goes_by_gain_for_a_parameter_and_in_order_within_a_module() -> None:
    taken = dict.fromkeys(OPTIONS, 0)
    worth = []
    for name in ranks.path(OPTIONS):
        worth.append(OPTIONS[name].gains[taken[name]] / OPTIONS[name].cost)
        taken[name] += 1
    assert worth == sorted(worth, reverse=True)


@pytest.mark.parametrize("least", range(1, 12))
def test_bisection_finds_the_least_that_holds(least: int) -> None:
    asked = []
    assert fewest(11, lambda count: count >= least, lambda: asked.append(1)) == least
    assert len(asked) <= 4
