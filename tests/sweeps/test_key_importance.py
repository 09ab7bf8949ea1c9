"""The share of the variance between settings that each key explains: exact on full grids, an estimate elsewhere."""

import itertools
import math

import numpy as np
import pytest

from acetrain.sweeps.importance import importance
from acetrain.sweeps.results import Setting


def settings(values, losses):
    return [
        Setting(dict(value), (), tuple(np.atleast_1d(loss).tolist()))
        for value, loss in zip(values, losses, strict=True)
    ]


def full(**axes):
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def test_a_full_grid_gives_the_main_effects_of_the_functional_anova():
    grid = full(a=[1, 2, 3], b=["x", "y"], c=[True, False])
    losses = np.random.default_rng(0).standard_normal(len(grid))
    found = importance(settings(grid, losses), ["a", "b", "c"])
    table = losses.reshape(3, 2, 2)
    whole = table.var()
    wanted = {
        key: table.mean(axis=tuple(other for other in range(3) if other != axis)).var() / whole
        for axis, key in enumerate("abc")
    }
    assert found is not None and found.exact
    assert dict(found.shares) == pytest.approx(wanted, rel=1e-9)
    assert found.together == pytest.approx(1 - sum(wanted.values()), rel=1e-9)
    assert list(found.shares) == sorted(wanted, key=lambda key: -wanted[key])


def test_a_key_of_many_values_is_exact_in_a_full_grid_as_well():
    grid = full(a=list(range(9)), b=[0, 1])
    losses = [math.sin(3 * value["a"]) + value["b"] for value in grid]
    found = importance(settings(grid, losses), ["a", "b"])
    effect = np.var([math.sin(3 * a) for a in range(9)])
    assert found is not None and found.shares["a"] == pytest.approx(effect / (effect + 0.25), rel=1e-9)


def test_a_grid_with_a_hole_is_told_to_be_an_estimate():
    grid = full(a=[1, 2, 3, 4], b=[0, 1, 2])
    losses = [value["a"] + 0.1 * value["b"] for value in grid]
    whole = importance(settings(grid, losses), ["a", "b"])
    holed = importance(settings(grid[:-1], losses[:-1]), ["a", "b"])
    assert whole is not None and holed is not None and whole.exact and not holed.exact
    assert dict(holed.shares) == pytest.approx(dict(whole.shares), abs=0.03)


def test_a_search_over_ranges_finds_the_key_that_matters():
    drawn = np.random.default_rng(1)
    values = [{"lr": float(10 ** drawn.uniform(-5, -3)), "rank": int(drawn.integers(4, 64))} for _ in range(40)]
    losses = [(math.log10(value["lr"]) + 4) ** 2 + 0.01 * float(drawn.standard_normal()) for value in values]
    found = importance(settings(values, losses), ["lr", "rank"])
    assert found is not None and found.shares["lr"] > 0.9 and found.shares["rank"] < 0.05


def test_the_seeds_share_is_told():
    grid = full(a=[0, 1])
    found = importance(settings(grid, [[0.9, 1.1], [1.9, 2.1]]), ["a"])
    assert found is not None and found.noise == pytest.approx((0.02 / 2) / 0.5)


@pytest.mark.parametrize("losses", [[1.0, 1.0], [[], []], [1.0, []]], ids=["alike", "unfinished", "one"])
def test_what_cannot_be_told_is_not_told(losses):
    assert importance(settings(full(a=[0, 1]), losses), ["a"]) is None


def test_many_keys_are_shared_out_over_random_orders():
    drawn = np.random.default_rng(2)
    values = [{f"k{key}": int(drawn.integers(0, 2)) for key in range(7)} for _ in range(60)]
    losses = [value["k0"] + 0.3 * value["k1"] for value in values]
    found = importance(settings(values, losses), [f"k{key}" for key in range(7)])
    assert found is not None and list(found.shares)[:2] == ["k0", "k1"] and found.shares["k0"] > 0.8
    assert math.fsum(found.shares.values()) + found.together == pytest.approx(1, abs=1e-6)
