"""Learning-rate curves against their closed forms, and what an extension does to them."""

import math
from itertools import pairwise

import pytest

from acetrain.training.schedule import Constant, Cosine, Horizon


def test_warmup_is_linear_and_reaches_the_peak() -> None:
    assert [Constant(4).factor(step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_is_half_a_cosine_to_its_floor() -> None:
    schedule = Cosine(warmup=10, floor=0.1)
    for step in range(10, 110):
        assert schedule.factor(step, 110) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * (step - 10) / 100)))
    assert schedule.factor(200, 110) == pytest.approx(0.1)


@pytest.mark.parametrize("reached", [30, 70, 100])
def test_an_extension_never_raises_the_learning_rate(reached: int) -> None:
    schedule = Cosine(warmup=10, floor=0.05)
    first = Horizon(100)
    second = first.extended(schedule, reached, 300)
    curve = [first.factor(schedule, step) for step in range(10, reached)]
    curve += [second.factor(schedule, step) for step in range(reached, 300)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(curve))
    assert curve[-1] == pytest.approx(0.05, abs=1e-3)


def test_a_run_that_is_not_extended_keeps_its_curve() -> None:
    horizon = Horizon(100)
    assert horizon.extended(Cosine(0, 0.0), 50, 100) is horizon
    assert Horizon(50).extended(Constant(0), 50, 100).factor(Constant(0), 99) == 1.0
    assert Horizon(20).extended(Cosine(10, 0.0), 5, 40).ceiling == 1.0
