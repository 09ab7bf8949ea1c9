"""Scores, intervals and spectra against numpy, in fp64, on random and on degenerate sums."""

import itertools
import math

import numpy as np
import pytest
import torch

from acetrain.analysis.estimates import BASELINES, Half, estimate, jackknife, spectrum
from acetrain.analysis.sketch import Dense

OUTPUTS, INPUTS = 20, 12


def songs(count: int, seed: int, signal: float = 1.0, noise: float = 1.0) -> np.ndarray:
    """Gradients of songs: a mean of rank 2 and noise, [song, output, input]."""
    shared, draw = np.random.default_rng(99), np.random.default_rng(seed)
    mean = signal * shared.standard_normal((OUTPUTS, 2)) @ shared.standard_normal((2, INPUTS))
    return mean + noise * draw.standard_normal((count, OUTPUTS, INPUTS))


def half(gradients: np.ndarray, shares: np.ndarray | None = None) -> Half:
    """A half whose groups are single songs."""
    count = len(gradients)
    shares = np.full(count, 1 / count) if shares is None else shares
    parts = torch.from_numpy(shares[:, None, None] * gradients)
    squares = (gradients**2).sum((1, 2))
    scalars = {"square": float(shares @ squares), "norm": float(shares @ np.sqrt(squares)), "feature": 1.5}
    return Half(Dense(parts.sum(0)), parts, torch.from_numpy(shares), scalars)


@pytest.mark.parametrize(("na", "nb"), [(2, 2), (5, 5), (7, 4)])
def test_the_standard_error_is_that_of_leaving_songs_out(na: int, nb: int) -> None:
    a, b = songs(na, 0), songs(nb, 1)
    error, freedom = jackknife(half(a), half(b))
    pairs = np.einsum("aij,bij->ab", a, b)
    residual = pairs - pairs.mean(0) - pairs.mean(1)[:, None] + pairs.mean()
    common = (residual**2).sum() / (na * nb * (na - 1) * (nb - 1))
    variances = []
    for one, other in ((a, b), (b, a)):
        left_out = np.array([(np.delete(one, i, 0).mean(0) * other.mean(0)).sum() for i in range(len(one))])
        variances.append((len(one) - 1) / len(one) * ((left_out - left_out.mean()) ** 2).sum())
    assert error == pytest.approx(math.sqrt(max(sum(variances) - common, sum(variances) / 2)), rel=1e-12)
    assert freedom == pytest.approx(
        sum(variances) ** 2 / sum(v**2 / (n - 1) for v, n in zip(variances, (na, nb), strict=True))
    )


def test_unequal_shares_are_pseudo_values_of_a_weighted_mean() -> None:
    """Against a half without noise, where nothing is common to pairs."""
    a, target = songs(4, 0), songs(1, 1, noise=0.0)[0]
    counts = np.array([1, 2, 3, 6])
    shares = counts / counts.sum()
    error, _ = jackknife(half(a, shares), half(np.tile(target, (3, 1, 1))))
    assert error is not None
    whole, total = (np.tensordot(shares, a, 1) * target).sum(), 0.0
    for i, h in enumerate(counts.sum() / counts):
        rest = np.delete(shares, i) / (1 - shares[i])
        without = (np.tensordot(rest, np.delete(a, i, 0), 1) * target).sum()
        total += (h * whole - (h - 1) * without - whole) ** 2 / (h - 1) / 4
    assert error**2 == pytest.approx(total, rel=1e-10)


def test_score_baselines_and_spectrum_are_numpys() -> None:
    a, b = songs(5, 2), songs(6, 3)
    weight = np.random.default_rng(4).standard_normal((OUTPUTS, INPUTS))
    found = estimate(half(a), half(b), torch.from_numpy(weight), rank_max=INPUTS)
    mean_a, mean_b = a.mean(0), b.mean(0)
    assert found.score == pytest.approx((mean_a * mean_b).sum(), rel=1e-12)
    (ua, _, va), (ub, _, vb) = np.linalg.svd(mean_a, full_matrices=False), np.linalg.svd(mean_b, full_matrices=False)
    crossed = (np.diag(ua.T @ mean_b @ va.T) + np.diag(ub.T @ mean_a @ vb.T)) / 2
    np.testing.assert_allclose(found.spectrum, crossed, rtol=1e-9, atol=1e-12)
    mean, squares = (mean_a + mean_b) / 2, [(one**2).sum((1, 2)) for one in (a, b)]
    expected = {
        "fisher": np.mean([one.mean() for one in squares]),
        "gradient_norm": np.mean([np.sqrt(one).mean() for one in squares]),
        "weight_gradient": np.abs(weight * mean).sum(),
        "nfn": 1.5,
        "naive": (mean**2).sum(),
    }
    assert set(found.baselines) == set(BASELINES)
    assert found.baselines == pytest.approx(expected, rel=1e-12)


def test_scores_have_no_bias_where_naive_ones_have_that_of_the_noise() -> None:
    truth = (songs(1, 0, noise=0.0)[0] ** 2).sum()
    found = [
        estimate(half(songs(4, 2 * i)), half(songs(4, 2 * i + 1)), torch.ones(OUTPUTS, INPUTS), 2) for i in range(80)
    ]
    scores = np.array([one.score for one in found])
    assert abs(scores.mean() - truth) < 4 * scores.std() / math.sqrt(80)
    assert np.mean([one.baselines["naive"] for one in found]) > truth + 0.9 * OUTPUTS * INPUTS / 8


def test_a_score_can_be_negative_and_its_interval_covers_zero() -> None:
    found = [
        estimate(half(songs(6, 2 * i, signal=0)), half(songs(6, 2 * i + 1, signal=0)), torch.ones(OUTPUTS, INPUTS), 4)
        for i in range(60)
    ]
    assert 15 < sum(one.score < 0 for one in found) < 45
    covered = [one.interval is not None and one.interval[0] <= 0 <= one.interval[1] for one in found]
    assert 0.85 <= np.mean(covered) <= 1


@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_of_low_rank_or_none_give_numbers(rank: int) -> None:
    gradients = np.tile(rank * np.outer(np.arange(OUTPUTS), np.arange(INPUTS)).astype(float), (3, 1, 1))
    found = estimate(half(gradients), half(gradients), torch.ones(OUTPUTS, INPUTS), rank_max=5)
    size = float(np.linalg.norm(gradients[0]))
    assert found.score == pytest.approx(size**2)
    np.testing.assert_allclose(found.spectrum, [size, 0, 0, 0, 0], atol=1e-9 * max(size, 1))
    assert found.error == pytest.approx(0, abs=1e-6 * size) and found.interval is not None
    assert all(map(math.isfinite, itertools.chain(found.baselines.values(), found.interval)))


def test_a_half_of_one_song_has_no_interval() -> None:
    found = estimate(half(songs(1, 0)), half(songs(4, 1)), torch.ones(OUTPUTS, INPUTS), 2)
    assert found.error is None and found.interval is None and math.isfinite(found.score)


def test_a_spectrum_falls_to_zero_where_directions_are_noise() -> None:
    values = np.array([spectrum(half(songs(9, 2 * i)).total, half(songs(9, 2 * i + 1)).total, 8) for i in range(40)])
    assert values[:, 0].min() > 5 and np.abs(values[:, 2:].mean(axis=0)).max() < 0.1


def test_the_standard_error_is_the_scores_spread() -> None:
    for signal in (0.0, 1.0):
        found = [
            estimate(half(songs(8, 2 * i, signal)), half(songs(8, 2 * i + 1, signal)), torch.ones(OUTPUTS, INPUTS), 1)
            for i in range(150)
        ]
        spread = np.std([one.score for one in found])
        errors = np.sqrt(np.mean([(one.error or 0.0) ** 2 for one in found]))
        assert errors == pytest.approx(spread, rel=0.15)
