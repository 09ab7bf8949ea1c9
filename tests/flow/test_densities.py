"""Law 7, first half: each quantile function against its closed form, its CDF, and what others draw."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy.integrate import quad
from scipy.stats import beta, kstest, norm

from acetrain.flow.timesteps import Acestep, Beta, Cosmap, Discrete, LogitNormal, Mode, Timesteps, Uniform

PLAIN: dict[str, Any] = {"shift": 1.0, "low": 0.0, "high": 1.0, "stratified": False}
GRID = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
COARSE = (torch.arange(2001, dtype=torch.float64) + 0.5) / 2001
TURBO = Discrete(shift=3.0, low=0.0, high=1.0, stratified=False, steps=8)

CONTINUOUS: list[tuple[type[Timesteps], dict[str, Any]]] = [
    (Acestep, {"mean": -0.4, "std": 1.0}),
    (Acestep, {"mean": 0.3, "std": 0.7}),
    (LogitNormal, {"mean": 0.0, "std": 1.0}),
    (LogitNormal, {"mean": -1.1, "std": 0.4}),
    (Uniform, {}),
    (Mode, {"scale": 1.29}),
    (Mode, {"scale": 1.75}),
    (Mode, {"scale": -1.0}),
    (Mode, {"scale": 0.0}),
    (Cosmap, {}),
    (Beta, {"a": 2.0, "b": 2.0}),
    (Beta, {"a": 0.7, "b": 3.0}),
]
"""Densities with a CDF, and what each needs beside the common keys."""
INTERVALS = [(1.0, 0.0, 1.0), (3.0, 0.0, 1.0), (0.5, 0.3, 0.9), (1.0, 0.02, 0.35), (3.0, 0.8, 1.0)]
"""shift, low, high."""

GOLDEN = [
    (LogitNormal, {"mean": 0.0, "std": 1.0}, (0.217286, 0.337492, 0.5, 0.662508, 0.782714)),
    (LogitNormal, {"mean": -0.4, "std": 1.0}, (0.156890, 0.254550, 0.401312, 0.568195, 0.707144)),
    (Acestep, {"mean": -0.4, "std": 1.0}, (0.293536, 0.401312, 0.536175, 0.669914, 0.774207)),
    (Uniform, {}, (0.1, 0.25, 0.5, 0.75, 0.9)),
    (Mode, {"scale": 1.29}, (0.197431, 0.383584, 0.5, 0.616416, 0.802569)),
    (Mode, {"scale": -1.0}, (0.024472, 0.146447, 0.5, 0.853553, 0.975528)),
    (Cosmap, {}, (0.136729, 0.292893, 0.5, 0.707107, 0.863271)),
    (Beta, {"a": 2.0, "b": 2.0}, (0.195800, 0.326352, 0.5, 0.673648, 0.804200)),
    (Beta, {"a": 3.0, "b": 1.0}, (0.464159, 0.629961, 0.793701, 0.908560, 0.965489)),
]
"""Quantiles at .1, .25, .5, .75, .9, to six places."""


def named(value: Any) -> str | None:
    """A density's name in a test's id."""
    return value.__name__ if isinstance(value, type) else None


@pytest.mark.parametrize(("kind", "own", "expected"), GOLDEN, ids=named)
def test_quantiles_are_those_of_the_table(kind: type[Timesteps], own: dict[str, Any], expected: tuple) -> None:
    u = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    assert kind(**PLAIN, **own).quantile(u).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("shift", "low", "high"), INTERVALS)
@pytest.mark.parametrize(("kind", "own"), CONTINUOUS, ids=named)
def test_the_quantile_function_inverts_the_conditional_cdf(
    kind: type[Timesteps], own: dict[str, Any], shift: float, low: float, high: float
) -> None:
    density = kind(shift=shift, low=low, high=high, stratified=False, **own)
    t = density.quantile(COARSE)
    below, above = density.cdf(low), density.cdf(high)
    cdf = torch.tensor([(density.cdf(value) - below) / (above - below) for value in t.tolist()], dtype=torch.float64)
    assert (cdf - COARSE).abs().max() < 1e-12 / (above - below)
    assert (t.diff() > 0).all() and low <= t.min() and t.max() <= high


@pytest.mark.parametrize("t", [1e-6, 0.01, 0.2, 0.5, 0.77, 0.999])
def test_cdfs_are_those_of_others(t: float) -> None:
    assert LogitNormal(**PLAIN, mean=0.3, std=0.7).cdf(t) == pytest.approx(
        norm.cdf((math.log(t / (1 - t)) - 0.3) / 0.7)
    )
    assert Acestep(**PLAIN, mean=-0.4, std=1.0).cdf(t) == pytest.approx(norm.cdf(math.log(t / (1 - t)) + 0.4) ** 2)
    assert Beta(**PLAIN, a=0.7, b=3.0).cdf(t) == pytest.approx(beta(0.7, 3.0).cdf(t), rel=1e-12)
    cosmap = quad(lambda x: 2 / math.pi / (1 - 2 * x + 2 * x**2), 0, t)[0]
    assert Cosmap(**PLAIN).cdf(t) == pytest.approx(cosmap, rel=1e-10)


def test_mode_is_that_of_diffusers_to_rounding() -> None:
    drawn = compute_density_for_timestep_sampling("mode", 1000, mode_scale=1.29, generator=seeded())
    ours = Mode(**PLAIN, scale=1.29).quantile(1 - torch.rand(1000, generator=seeded()))
    assert torch.allclose(ours, drawn, atol=1e-6)


def test_logit_normal_is_what_diffusers_draws() -> None:
    drawn = compute_density_for_timestep_sampling("logit_normal", 50_000, -0.4, 1.3, generator=seeded())
    assert kstest(drawn.numpy(), LogitNormal(**PLAIN, mean=-0.4, std=1.3).quantile(GRID).numpy()).pvalue > 0.01


def test_cosmap_and_beta_are_what_others_draw() -> None:
    normal = torch.rand(50_000, generator=seeded(), dtype=torch.float64)
    noise, data = torch.sin(math.pi / 2 * normal), torch.cos(math.pi / 2 * normal)
    ratio = noise / (noise + data)  # the cosine schedule's noise to data, on the straight path
    assert kstest(ratio.numpy(), Cosmap(**PLAIN).quantile(GRID).numpy()).pvalue > 0.01
    drawn = beta(1.5, 0.8).rvs(50_000, random_state=0)
    assert kstest(drawn, Beta(**PLAIN, a=1.5, b=0.8).quantile(GRID).numpy()).pvalue > 0.01


def test_acestep_is_the_larger_of_two_logit_normal_draws() -> None:
    draws = torch.sigmoid(torch.randn(50_000, 2, generator=seeded()) - 0.4).amax(dim=1)
    assert kstest(draws.numpy(), Acestep(**PLAIN, mean=-0.4, std=1.0).quantile(GRID).numpy()).pvalue > 0.01


def test_acestep_has_the_published_moments() -> None:
    t = Acestep(**PLAIN, mean=None, std=None).quantile(GRID)
    assert t.mean().item() == pytest.approx(0.534, abs=1e-3)
    assert t.median().item() == pytest.approx(0.536, abs=1e-3)
    assert (t < 0.3).double().mean().item() == pytest.approx(0.11, abs=5e-3)
    assert (t > 0.7).double().mean().item() == pytest.approx(0.20, abs=5e-3)


def test_discrete_is_turbos_table() -> None:
    levels = TURBO.quantile((torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    assert [round(value, 4) for value in levels.flip(0).tolist()] == [1.0, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3]


def test_discrete_weighs_its_levels_alike() -> None:
    _, counts = (
        Discrete(shift=2.0, low=0.0, high=1.0, stratified=False, steps=5).quantile(GRID).unique(return_counts=True)
    )
    assert counts.tolist() == [40_000] * 5


def test_discrete_keeps_the_levels_inside_the_interval_ends_included() -> None:
    inside = Discrete(shift=3.0, low=0.3, high=0.9, stratified=False, steps=8)
    levels, counts = inside.quantile(GRID).unique(return_counts=True)
    assert [round(value, 4) for value in levels.tolist()] == [0.3, 0.5, 0.6429, 0.75, 0.8333, 0.9]
    assert counts.max() - counts.min() <= 1


def test_uniform_is_the_identity() -> None:
    assert torch.equal(Uniform(**PLAIN).quantile(GRID), GRID)


def test_a_shift_of_the_density_is_that_of_its_draws() -> None:
    plain = LogitNormal(**PLAIN, mean=0.0, std=1.0)
    t, moved = plain.quantile(COARSE), replace(plain, shift=3.0).quantile(COARSE)
    assert torch.allclose(moved, 3 * t / (1 + 2 * t), rtol=1e-15)
    assert torch.allclose(torch.logit(moved), torch.logit(t) + math.log(3))


def seeded() -> torch.Generator:
    """A generator that starts where it always starts."""
    return torch.Generator().manual_seed(0)
