"""Weightings against their closed forms, diffusers', and what their papers say of the data's and the noise's error."""

import math

import pytest
import torch
from diffusers.training_utils import compute_loss_weighting_for_sd3
from scipy.integrate import quad

from acetrain.flow.path import interpolate, target
from acetrain.flow.weighting import CosmapWeighting, Debias, MinSnr, SigmaSqrt, Unweighted, Weighting

TIMES = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
SNR = ((1 - TIMES) / TIMES) ** 2


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        (Unweighted(), [1.0, 1.0, 1.0, 1.0, 1.0]),
        (MinSnr(5.0), [0.05, 0.3125, 0.25, 0.0625, 0.01]),
        (MinSnr(1.0), [0.01, 0.0625, 0.25, 0.0625, 0.01]),
        (SigmaSqrt(), [100.0, 16.0, 4.0, 1.777778, 1.234568]),
        (CosmapWeighting(), [0.776366, 1.018592, 1.273240, 1.018592, 0.776366]),
        (Debias(), [0.09, 0.1875, 0.25, 0.1875, 0.09]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_weights_are_those_of_the_table(weighting: Weighting, expected: list[float]) -> None:
    t = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    assert weighting.weights(t).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("weighting", "name"), [(SigmaSqrt(), "sigma_sqrt"), (CosmapWeighting(), "cosmap")])
def test_weights_are_those_of_diffusers(weighting: Weighting, name: str) -> None:
    assert torch.allclose(
        weighting.weights(TIMES.float()), compute_loss_weighting_for_sd3(name, TIMES.float()), rtol=1e-6
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0, 20.0])
def test_min_snr_holds_the_datas_error_to_min_of_snr_and_gamma(gamma: float) -> None:
    data, noise, wrong = torch.randn(
        3, len(TIMES), 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    t = TIMES.view(-1, 1, 1)
    predicted = interpolate(data, noise, TIMES) - t * wrong
    ours = MinSnr(gamma).weights(TIMES) * ((target(data, noise) - wrong) ** 2).sum(dim=(1, 2))
    theirs = SNR.clamp(max=gamma) * ((data - predicted) ** 2).sum(dim=(1, 2))
    assert torch.allclose(ours, theirs, rtol=1e-9)


def test_min_snr_damps_the_clean_end_to_gamma_and_follows_the_noises_error_to_the_other() -> None:
    clean, noisy = 1 / (1 + math.sqrt(5)) - 1e-3, 1 / (1 + math.sqrt(5)) + 1e-3
    weights = MinSnr(5.0).weights(TIMES)
    assert torch.equal(weights[clean > TIMES], 5 * TIMES[clean > TIMES] ** 2)
    assert torch.equal(weights[noisy < TIMES], (1 - TIMES[noisy < TIMES]) ** 2)
    assert weights.max().item() == pytest.approx(5 / (1 + math.sqrt(5)) ** 2, abs=1e-3)
    assert weights[0] < 1e-5 and weights[-1] < 1e-5


def test_debias_weighs_the_noises_error_by_one_over_the_root_of_snr() -> None:
    data, noise, wrong = torch.randn(
        3, len(TIMES), 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    predicted = interpolate(data, noise, TIMES) + (1 - TIMES).view(-1, 1, 1) * wrong
    ours = Debias().weights(TIMES) * ((target(data, noise) - wrong) ** 2).sum(dim=(1, 2))
    assert torch.allclose(ours, ((noise - predicted) ** 2).sum(dim=(1, 2)) / SNR.sqrt(), rtol=1e-9)


@pytest.mark.parametrize(("weighting", "mean"), [(CosmapWeighting(), 1.0), (Debias(), 1 / 6)])
def test_means_over_uniform_times_are_as_documented(weighting: Weighting, mean: float) -> None:
    def weight(t: float) -> float:
        return weighting.weights(torch.tensor(t, dtype=torch.float64)).item()

    assert quad(weight, 0, 1)[0] == pytest.approx(mean, rel=1e-9)
