"""Drawn times of every option: their law with and without stratification, and what an interval does to it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fabricate import ACESTEP
from scipy.stats import kstest
from test_laws import option, options
from torch import Tensor

from acetrain.data.batch import Batch, collate
from acetrain.data.plan import Plan
from acetrain.errors import Refused
from acetrain.flow.timesteps import Acestep, Beta, Discrete, LogitNormal, Mode, Timesteps, Uniform
from acetrain.training.draws import shares

VARIANTS = [(1.0, 0.0, 1.0), (3.0, 0.0, 1.0), (0.5, 0.2, 0.7), (2.0, 0.5, 1.0)]
"""shift, low, high."""
PLAIN: dict[str, Any] = {"shift": 1.0, "low": 0.0, "high": 1.0, "stratified": False}


def visits(count: int, seed: int = 0, first: int = 0) -> Batch:
    """A batch of `count` visits of a run, as short as can be."""
    one, places = torch.zeros(1, 1), range(first, first + count)
    return collate([(one, one)] * count, [(seed, 0, f"{place}.wav", 0) for place in places], 1.0, places)


def drawn(timesteps: Timesteps, batch: Batch) -> Tensor:
    return timesteps.quantile(shares(batch, timesteps.stratified))


VISITS = visits(1000)


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize(("shift", "low", "high"), VARIANTS)
@pytest.mark.parametrize("name", options("timesteps"))
def test_draws_are_the_shifted_density_given_the_interval(
    name: str, shift: float, low: float, high: float, stratified: bool
) -> None:
    plain = option("timesteps", name)
    density = replace(plain, shift=shift, low=low, high=high, stratified=stratified)
    whole = replace(plain, shift=1.0, low=0.0, high=1.0).quantile(torch.rand(30_000, generator=seeded()).double())
    moved = shift * whole / (1 + (shift - 1) * whole)
    accepted = moved[(moved >= low) & (moved <= high)]
    t = drawn(density, VISITS)
    assert low <= t.min() and t.max() <= high
    assert kstest(t.numpy(), accepted.numpy()).pvalue > 1e-3
    assert (t == low).double().mean() < 0.3 > (t == high).double().mean()  # discrete may draw a level there


def seeded() -> torch.Generator:
    """A generator that starts where it always starts."""
    return torch.Generator().manual_seed(1)


def test_a_stretch_of_a_stratified_run_covers_the_density_evenly() -> None:
    for first in (0, 17, 10**9):
        u = shares(visits(100, first=first), stratified=True).sort().values
        middles = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
        assert (u - middles).abs().max() < 0.03  # of independent draws: about 0.09
        assert u.diff().min() > 0.003


def test_a_stratified_time_follows_its_law_at_every_place() -> None:
    for place in (0, 1, 12345):
        u = torch.cat([shares(visits(1, seed, place), stratified=True) for seed in range(1000)])
        assert kstest(u.numpy(), "uniform").pvalue > 1e-2


def test_stratified_times_belong_to_the_place_whatever_the_batch() -> None:
    together = shares(visits(20, seed=3), stratified=True)
    parts = [shares(visits(count, 3, first), stratified=True) for first, count in ((0, 7), (7, 1), (8, 12))]
    assert torch.equal(torch.cat(parts), together)
    assert not torch.equal(shares(visits(20, seed=4), stratified=True), together)


def test_places_count_the_visits_of_the_plan() -> None:
    plan = Plan(tuple(range(100, 111)), 4, 2, 0, (1, 2) + (1,) * 9)
    counted = 0
    for index in range(3 * plan.steps_per_epoch):
        assert plan.place(index) == counted
        counted += len(plan.step(index))


@pytest.mark.parametrize(("songs", "ratio"), [(40, 5), (400, 50)])
def test_stratified_means_vary_less(songs: int, ratio: float) -> None:
    def spread(timesteps: Timesteps) -> float:
        """The variance over seeds of an epoch's mean of a loss that falls with t, as a model's does."""
        epochs = [drawn(timesteps, visits(songs, seed, first=songs)) for seed in range(50)]
        return torch.stack([(2 - 1.5 * t**2).mean() for t in epochs]).var().item()

    assert spread(replace(ACESTEP, stratified=True)) < spread(ACESTEP) / ratio


REFUSED: list[tuple[type[Timesteps], dict[str, Any], str]] = [
    (Uniform, {"low": 0.5, "high": 0.5}, r"timesteps.high: must be above low \(0.5\), at most 1, got 0.5"),
    (
        Acestep,
        {"mean": -0.4, "std": 1.0, "low": 0.999},
        r"timesteps.low: must be such that low..high .* \(it holds 2.7e-13\), got 0.999",
    ),
    (
        LogitNormal,
        {"mean": 0.0, "std": 0.1, "high": 0.3},
        r"timesteps.high: must be such that low..high holds at least 0.0001",
    ),
    (Mode, {"scale": 1.76}, r"timesteps.scale: must be from -1 to 1.7519, which is 2/\(pi-2\), got 1.76"),
    (Beta, {"a": 9.0, "b": 1.0, "high": 0.2}, r"timesteps.high: must be such that"),
    (
        Discrete,
        {"steps": 8, "low": 0.51, "high": 0.6},
        r"timesteps.low: must be such that .* \(nearest: 0.5\), got 0.51",
    ),
]


@pytest.mark.parametrize(("kind", "keys", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_an_interval_without_mass_is_refused(kind: type[Timesteps], keys: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        kind(**(PLAIN | keys))


def test_an_interval_is_judged_when_the_checkpoint_has_said_where_the_density_lies() -> None:
    left_open = Acestep(shift=1.0, low=0.9, high=1.0, stratified=False, mean=None, std=None)
    assert left_open.fitted({}).cdf(0.9) == pytest.approx(0.9904, abs=1e-3)
    with pytest.raises(Refused, match=r"low\.\.high holds at least"):
        left_open.fitted({"timestep_mu": -3.0, "timestep_sigma": 0.5})
