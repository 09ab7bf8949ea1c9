"""Law 7, first half: what is drawn follows the quantile function, and the model's own density is the model's own."""

import math

import pytest
import torch
from scipy.stats import kstest, norm

from acetrain.flow.timesteps import Acestep, Discrete, Uniform

GRID = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000


def test_acestep_is_the_larger_of_two_logit_normal_draws() -> None:
    draws = torch.sigmoid(torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)) - 0.4).amax(dim=1)
    t = Acestep(mean=-0.4, std=1.0).quantile(GRID)
    assert kstest(draws.numpy(), lambda x: norm.cdf(torch.logit(torch.as_tensor(x)).numpy() + 0.4) ** 2).pvalue > 0.01
    assert torch.allclose(
        t.quantile(torch.tensor([0.1, 0.5, 0.9]).double()),
        draws.double().quantile(torch.tensor([0.1, 0.5, 0.9]).double()),
        atol=5e-3,
    )


def test_acestep_has_the_published_moments() -> None:
    t = Acestep(mean=-0.4, std=1.0).quantile(GRID)
    assert t.mean().item() == pytest.approx(0.534, abs=1e-3)
    assert t.median().item() == pytest.approx(0.536, abs=1e-3)
    assert (t < 0.3).double().mean().item() == pytest.approx(0.11, abs=5e-3)
    assert (t > 0.7).double().mean().item() == pytest.approx(0.20, abs=5e-3)


def test_acestep_inverts_its_cdf() -> None:
    t = Acestep(mean=0.3, std=0.7).quantile(GRID)
    cdf = torch.special.ndtr((torch.logit(t) - 0.3) / 0.7) ** 2
    assert torch.allclose(cdf, GRID, atol=1e-12)


def test_discrete_is_turbos_table() -> None:
    levels = Discrete(steps=8, shift=3.0).quantile((torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    assert [round(value, 4) for value in levels.flip(0).tolist()] == [1.0, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3]


def test_discrete_weighs_its_levels_alike() -> None:
    _, counts = Discrete(steps=5, shift=2.0).quantile(GRID).unique(return_counts=True)
    assert counts.tolist() == [40_000] * 5


def test_uniform_is_the_identity() -> None:
    assert torch.equal(Uniform().quantile(GRID), GRID)


@pytest.mark.parametrize("density", [Acestep(-0.4, 1.0), Uniform(), Discrete(8, 3.0)], ids=lambda d: type(d).__name__)
def test_quantiles_ascend_within_the_unit_interval(density: Uniform) -> None:
    t = density.quantile(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (t.diff() >= 0).all() and t.min() >= 0 and t.max() <= 1 and math.isfinite(t.sum().item())
