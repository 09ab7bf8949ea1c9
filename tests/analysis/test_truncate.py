"""Truncation in factors against dense numpy, on random and on degenerate updates and moments."""

import numpy as np
import pytest
import torch
from torch import Tensor

from acetrain.adapters.low_rank import LowRank
from acetrain.analysis.truncate import Decomposed, Seen, decompose, truncations


def drawn(outputs: int, inputs: int, rank: int, seed: int = 0) -> LowRank:
    """Random factors whose ranks differ in strength."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(0, -2, rank)
    return LowRank(torch.randn(outputs, rank, generator=draw) * sizes, torch.randn(rank, inputs, generator=draw))


UPDATES = {
    "tall": drawn(40, 24, 6),
    "wide": drawn(24, 40, 6),
    "rank 1": drawn(30, 20, 1),
    "rank above both sides": drawn(12, 10, 16),
    "repeated directions": LowRank(drawn(30, 20, 4).b.repeat(1, 2), drawn(30, 20, 4).a.repeat(2, 1)),
    "zero": LowRank(torch.zeros(30, 4), drawn(30, 20, 4).a),
}


def moments(size: int, rank: int, seed: int) -> np.ndarray:
    """A matrix of second moments of `rank`."""
    samples = np.random.default_rng(seed).normal(size=(rank, size)) * np.logspace(0, -1, size)
    return samples.T @ samples / rank


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values.clip(0)) @ vectors.T


def rank_k_error(metric: np.ndarray, rank: int) -> float:
    """The least error of a rank in the metric (Eckart and Young)."""
    return float((np.linalg.svd(metric, compute_uv=False)[rank:] ** 2).sum())


def seen_as(whole: Decomposed, inputs: np.ndarray, gradients: np.ndarray | None = None) -> Seen:
    """Moments of the whole inputs and outputs, in the update's coordinates."""
    h = whole.v.T @ torch.from_numpy(inputs) @ whole.v
    return Seen(h, None if gradients is None else whole.u.T @ torch.from_numpy(gradients) @ whole.u)


def dense(found: Decomposed) -> np.ndarray:
    return (found.u * found.s @ found.v.T).numpy()


@pytest.mark.parametrize("name", UPDATES)
def test_singular_values_are_those_of_the_dense_update(name: str) -> None:
    update = UPDATES[name]
    exact = torch.linalg.svdvals(update.b.double() @ update.a.double())
    found = decompose(update)
    assert torch.allclose(found.s, exact[: found.rank], rtol=1e-12, atol=1e-14)
    assert found.rank == torch.linalg.matrix_rank(update.b.double() @ update.a.double())
    assert np.allclose(dense(found), (update.b.double() @ update.a.double()).numpy(), atol=1e-13)


@pytest.mark.parametrize("name", UPDATES)
def test_by_weights_truncation_is_torchs_svd(name: str) -> None:
    update = UPDATES[name]
    u, s, v = torch.linalg.svd(update.b.double() @ update.a.double(), full_matrices=False)
    one = truncations(decompose(update))
    for rank in range(1, one.whole.rank + 1):
        assert np.allclose(dense(one.at(rank)), (u[:, :rank] * s[:rank] @ v[:rank]).numpy(), atol=1e-12)


@pytest.mark.parametrize("metric", ["weights", "activations", "loss"])
@pytest.mark.parametrize("seen_rank", [3, 200])
@pytest.mark.parametrize("name", UPDATES)
def test_full_rank_is_the_identity_and_error_falls_as_rank_grows(name: str, metric: str, seen_rank: int) -> None:
    whole = decompose(UPDATES[name])
    inputs = moments(whole.v.shape[0], seen_rank, 1)
    gradients = moments(whole.u.shape[0], seen_rank, 2) if metric == "loss" else None
    one = truncations(whole, None if metric == "weights" else seen_as(whole, inputs, gradients))
    assert np.allclose(dense(one.at(whole.rank)), dense(whole), rtol=0, atol=1e-8 * max(1.0, float(whole.s.sum())))
    retained = [one.retained(rank) for rank in range(whole.rank + 1)]
    assert retained == sorted(retained)
    assert retained[-1] == 1


@pytest.mark.parametrize("seen_rank", [2, 5, 200])
@pytest.mark.parametrize("name", UPDATES)
def test_by_activations_the_error_is_the_least_that_full_whitening_allows(name: str, seen_rank: int) -> None:
    whole = decompose(UPDATES[name])
    moment = moments(whole.v.shape[0], seen_rank, 1)
    one = truncations(whole, seen_as(whole, moment))
    metric = dense(whole) @ root(moment)
    for rank in range(1, whole.rank + 1):
        error = np.square((dense(whole) - dense(one.at(rank))) @ root(moment)).sum()
        assert error == pytest.approx(rank_k_error(metric, rank), rel=1e-6, abs=1e-9 * np.square(metric).sum())


@pytest.mark.parametrize("seen_rank", [2, 5, 200])
@pytest.mark.parametrize("name", UPDATES)
def test_by_the_loss_the_error_is_the_least_that_two_sided_whitening_allows(name: str, seen_rank: int) -> None:
    whole = decompose(UPDATES[name])
    inputs, gradients = moments(whole.v.shape[0], 200, 1), moments(whole.u.shape[0], seen_rank, 2)
    one = truncations(whole, seen_as(whole, inputs, gradients))
    metric = root(gradients) @ dense(whole) @ root(inputs)
    scale = np.square(metric).sum()
    for rank in range(1, whole.rank + 1):
        error = np.square(root(gradients) @ (dense(whole) - dense(one.at(rank))) @ root(inputs)).sum()
        left_out = one.values[rank:].square().sum().item()
        assert error == pytest.approx(rank_k_error(metric, rank), rel=1e-5, abs=1e-8 * scale)
        assert left_out == pytest.approx(error, rel=1e-4, abs=1e-8 * scale)


def test_what_no_token_showed_is_worth_nothing_beside_what_one_did() -> None:
    whole = decompose(UPDATES["tall"])
    nothing = torch.zeros(whole.rank, whole.rank)
    one = truncations(whole, Seen(nothing, nothing))
    assert one.values.max() < 1e-40
    assert np.allclose(dense(one.at(whole.rank)), dense(whole), atol=1e-10)


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_balanced_factors_are_equally_long_and_give_the_update(strength: float) -> None:
    whole = decompose(UPDATES["tall"])
    factors = whole.factors(strength=strength)
    lengths: Tensor = (factors.b / strength).norm(dim=0)
    assert torch.allclose(lengths, factors.a.norm(dim=1))
    assert np.allclose(factors.dense().numpy(), dense(whole), atol=1e-12)
    rows = whole.factors(balanced=False, strength=strength).a
    assert torch.allclose(rows @ rows.T, torch.eye(whole.rank, dtype=torch.float64), atol=1e-12)


def test_an_update_of_zero_stays_zero_and_trainable() -> None:
    factors = decompose(UPDATES["zero"]).factors()
    assert factors.rank == 1
    assert not factors.b.any()
    assert factors.a.all()
