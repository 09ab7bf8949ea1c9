"""Learning-rate curves against closed forms and the libraries that define them, and what an extension does to them."""

import math
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import metrics, train
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearLR, LRScheduler, PolynomialLR
from transformers.optimization import (
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from acetrain.errors import Refused
from acetrain.training.schedule import (
    Constant,
    Cosine,
    CosineRestarts,
    Descent,
    Horizon,
    Linear,
    Polynomial,
    Rex,
    Schedule,
    WarmupStableDecay,
)

NONE = (0, 0.0)
"""No warm-up."""


def curve(schedule: Schedule, total: int) -> list[float]:
    return [schedule.factor(step, total) for step in range(total)]


def adam(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def followed(scheduler: LRScheduler, steps: int) -> list[float]:
    rates = []
    with warnings.catch_warnings(action="ignore"):
        for _ in range(steps):
            rates.append(scheduler.get_last_lr()[0])
            scheduler.step()
    return rates


def test_warmup_is_linear_and_reaches_the_peak() -> None:
    assert [Constant(4, 0.0).factor(step, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_share_of_the_run_warms_up_as_that_many_steps_do() -> None:
    for total in (10, 99, 1000):
        assert curve(Cosine(0, 0.3, 0.1), total) == curve(Cosine(math.floor(0.3 * total), 0.0, 0.1), total)
    assert Linear(0, 0.99, 0.0).warmup_steps(3) == 2


CLOSED_FORMS = [
    (Linear(*NONE, 0.2), [1.0, 0.8, 0.6, 0.4]),
    (Cosine(*NONE, 0.0), [1.0, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]),
    (Polynomial(*NONE, 0.0, 2.0), [1.0, 9 / 16, 1 / 4, 1 / 16]),
    (Polynomial(*NONE, 0.0, 0.5), [1.0, math.sqrt(3) / 2, math.sqrt(0.5), 0.5]),
    (Rex(*NONE, 0.0), [1.0, 6 / 7, 2 / 3, 2 / 5]),
    (CosineRestarts(*NONE, 0.0, 2, 1.0, 0.5), [1.0, 0.5, 0.5, 0.25]),
    (
        CosineRestarts(*NONE, 0.1, 1, 1.0, 1.0),
        [0.1 + 0.9 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)],
    ),
    (WarmupStableDecay(*NONE, 0.0, 0.5, Descent.linear), [1.0, 1.0, 1.0, 0.5]),
    (WarmupStableDecay(*NONE, 0.0, 1.0, Descent.sqrt), [1.0, 0.5, 1 - math.sqrt(0.5), 1 - math.sqrt(0.75)]),
    (
        WarmupStableDecay(*NONE, 0.5, 1.0, Descent.cosine),
        [1.0, 0.5 + (2 + math.sqrt(2)) / 8, 0.75, 0.75 - math.sqrt(2) / 8],
    ),
    (Constant(*NONE), [1.0] * 4),
]


@pytest.mark.parametrize(("schedule", "table"), CLOSED_FORMS)
def test_the_curve_is_its_closed_form(schedule: Schedule, table: list[float]) -> None:
    assert curve(schedule, 4) == pytest.approx(table, abs=1e-12)


LIBRARIES = [
    (Linear(*NONE, 0.1), LinearLR(adam(), 1.0, 0.1, 70)),
    (Cosine(*NONE, 0.1), CosineAnnealingLR(adam(), 70, 0.1)),
    (Polynomial(*NONE, 0.0, 1.7), PolynomialLR(adam(), 70, 1.7)),
    (Polynomial(*NONE, 0.1, 1.7), get_polynomial_decay_schedule_with_warmup(adam(), 0, 70, 0.1, 1.7)),
    (CosineRestarts(*NONE, 0.1, 3, 2.0, 1.0), CosineAnnealingWarmRestarts(adam(), 10, 2, 0.1)),
    (CosineRestarts(*NONE, 0.0, 5, 1.0, 1.0), get_cosine_with_hard_restarts_schedule_with_warmup(adam(), 0, 70, 5)),
    (
        WarmupStableDecay(*NONE, 0.1, 0.2, Descent.linear),
        get_wsd_schedule(adam(), 0, 14, 70, None, "linear", "linear", 0.1),
    ),
    (
        WarmupStableDecay(*NONE, 0.1, 0.2, Descent.cosine),
        get_wsd_schedule(adam(), 0, 14, 70, None, "linear", "cosine", 0.1),
    ),
    (
        WarmupStableDecay(*NONE, 0.1, 0.2, Descent.sqrt),
        get_wsd_schedule(adam(), 0, 14, 70, None, "linear", "1-sqrt", 0.1),
    ),
]


@pytest.mark.parametrize(("schedule", "library"), LIBRARIES)
def test_the_curve_is_that_of_torch_or_transformers(schedule: Schedule, library: LRScheduler) -> None:
    assert curve(schedule, 70) == pytest.approx(followed(library, 70), abs=1e-9)


def test_rex_is_pytorch_optimizers() -> None:
    rex = pytest.importorskip("pytorch_optimizer").REXScheduler(adam(), 70, 1.0, 0.0)
    assert curve(Rex(*NONE, 0.0), 70)[1:] == pytest.approx([rex.step() for _ in range(69)])


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("total", [20, 100, 331])
def test_every_cycle_starts_at_its_peak(growth: float, total: int) -> None:
    schedule = CosineRestarts(*NONE, 0.0, 3, growth, 0.5)
    after = curve(schedule, total)
    starts = [later for earlier, later in pairwise(after) if later > earlier]
    assert len(starts) == 2 and starts == sorted(starts, reverse=True)
    assert all(0.7 * peak < start <= peak for start, peak in zip(starts, (0.5, 0.25), strict=True))


@pytest.mark.parametrize("reached", [30, 70, 100])
def test_an_extension_never_raises_the_learning_rate(reached: int) -> None:
    schedule = Cosine(10, 0.0, 0.05)
    first = Horizon(100)
    second = first.extended(schedule, reached, 300)
    rates = [first.factor(schedule, step) for step in range(10, reached)]
    rates += [second.factor(schedule, step) for step in range(reached, 300)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates))
    assert rates[-1] == pytest.approx(0.05, abs=1e-3)


def test_restarts_of_an_extension_stay_below_what_was_reached() -> None:
    schedule = CosineRestarts(*NONE, 0.1, 4, 1.0, 1.0)
    middle = Horizon(100).extended(schedule, 40, 200)
    reached = Horizon(100).factor(schedule, 39)
    rates = [middle.factor(schedule, step) for step in range(40, 200)]
    assert max(rates) == reached > 0.4 and min(rates) < 0.11
    finished = Horizon(100).extended(schedule, 100, 200)
    assert all(finished.factor(schedule, step) <= Horizon(100).factor(schedule, 99) < 0.11 for step in range(100, 200))


def test_an_extension_makes_a_warm_up_of_a_share_no_longer() -> None:
    schedule = Linear(0, 0.1, 0.0)
    horizon = Horizon(100).extended(schedule, 50, 1000)
    assert horizon.warmup(schedule) == horizon.extended(schedule, 60, 5000).warmup(schedule) == 10
    assert horizon.factor(schedule, 50) == pytest.approx(Horizon(100).factor(schedule, 49))
    assert Horizon(100).extended(schedule, 5, 1000).factor(schedule, 5) == 0.6


def test_a_run_that_is_not_extended_keeps_its_curve() -> None:
    horizon = Horizon(100)
    assert horizon.extended(Cosine(*NONE, 0.0), 50, 100) is horizon
    assert Horizon(50).extended(Constant(*NONE), 50, 100).factor(Constant(*NONE), 99) == 1.0
    assert Horizon(20).extended(Cosine(10, 0.0, 0.0), 5, 40).ceiling == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(-1, 0.0), "schedule.warmup: must be at least 0 steps, got -1"),
        (lambda: Constant(0, 1.0), r"schedule.warmup_share: must be in \[0, 1\), got 1.0"),
        (lambda: Constant(5, 0.1), "schedule.warmup_share: must be 0 where schedule.warmup is 5, got 0.1"),
        (lambda: Linear(*NONE, 1.5), r"schedule.floor: must be in \[0, 1\], got 1.5"),
        (lambda: Polynomial(*NONE, 0.0, 0.0), "schedule.power: must be above 0 and finite, got 0.0"),
        (lambda: CosineRestarts(*NONE, 0.0, 0, 1.0, 1.0), "schedule.cycles: must be at least 1, got 0"),
        (lambda: CosineRestarts(*NONE, 0.0, 2, 0.5, 1.0), "schedule.growth: must be at least 1 and finite, got 0.5"),
        (lambda: CosineRestarts(*NONE, 0.0, 2, 1.0, 0.0), r"schedule.decay: must be in \(0, 1\], got 0.0"),
        (
            lambda: WarmupStableDecay(*NONE, 0.0, 0.0, Descent.sqrt),
            r"schedule.decay_share: must be in \(0, 1\], got 0.0",
        ),
    ],
)
def test_a_curve_that_cannot_be_is_refused(build, message: str) -> None:
    with pytest.raises(Refused, match=message):
        build()


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=3)


def test_a_run_follows_its_schedule_and_is_refused_another(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    chosen = ["schedule=rex", "schedule.warmup=0", "schedule.warmup_share=0.25", "optimizer.lr=1.0e-3"]
    assert train(songs, run, *chosen, "max_steps=8").returncode == 0
    expected = [1e-3 * factor for factor in curve(Rex(0, 0.25, 0.0), 8)]
    assert [float(row["lr"]) for row in metrics(run)] == pytest.approx(expected, rel=1e-6)
    done = train(songs, run, "schedule=linear", *chosen[1:], "max_steps=16")
    assert done.returncode == 2 and "schedule (Rex there, Linear here)" in done.stderr
    assert train(songs, run, *chosen, "max_steps=16").returncode == 0
    rates = [float(row["lr"]) for row in metrics(run)]
    assert all(later <= earlier for earlier, later in pairwise(rates[1:])) and len(rates) == 16
