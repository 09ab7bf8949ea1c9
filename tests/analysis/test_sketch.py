"""What is read out of a sketch against the whole matrix, on known spectra and on degenerate ones."""

import numpy as np
import pytest
import torch

from acetrain.analysis.estimates import spectrum
from acetrain.analysis.sizes import is_exact
from acetrain.analysis.sketch import Dense, Signs, Sketch, inner

RANKS = 64


def matrix(outputs: int, inputs: int, values: list[float], seed: int = 0) -> torch.Tensor:
    """A matrix with these singular values and random directions."""
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.standard_normal((width, len(values))))[0] for width in (outputs, inputs))
    return torch.from_numpy(left * np.array(values) @ right.T)


def sketch(gradient: torch.Tensor, half: int, seed: int = 0, width: int = 128) -> Sketch:
    signs = Signs(width, seed, half)
    omega, psi = signs.right(gradient.shape[1]).double(), signs.left(gradient.shape[0]).double()
    return Sketch(gradient @ omega, psi.T @ gradient, omega, psi)


def read(a: torch.Tensor, b: torch.Tensor, seed: int = 0) -> np.ndarray:
    """The cross-validated spectrum by sketches."""
    return np.array(spectrum(sketch(a, 0, seed), sketch(b, 1, seed), RANKS))


def test_a_falling_spectrum_is_read_within_what_the_docs_state() -> None:
    gradient = matrix(512, 384, [1 / i for i in range(1, 385)])
    found, true = read(gradient, gradient), 1 / np.arange(1, RANKS + 1)
    assert np.abs(found / true - 1)[:6].max() < 0.02 and abs(found[9] / true[9] - 1) < 0.05
    assert np.all(found < 1.01 * true)


def test_low_rank_is_read_exactly() -> None:
    gradient = matrix(300, 400, [0.7**i for i in range(50)])
    np.testing.assert_allclose(read(gradient, gradient)[:50], [0.7**i for i in range(50)], atol=1e-6)


def test_a_flat_tail_is_not_lifted_as_a_two_sided_sketch_lifts_it() -> None:
    gradient = matrix(1024, 1024, [1.0] * 6 + [0.1] * 1018)
    draw = torch.Generator().manual_seed(0)
    sides = [torch.randn(1024, 64, generator=draw, dtype=torch.float64) / 8 for _ in range(2)]
    two_sided = torch.linalg.svdvals(sides[0].T @ gradient @ sides[1])
    assert two_sided[0] > 1.4 and two_sided[6] > 0.65
    found = read(gradient, gradient)
    assert np.all((found[:6] > 0.82) & (found[:6] < 1.0))
    assert np.all(np.abs(found[6:]) < 0.05)


def test_what_one_half_makes_up_does_not_come_back_in_the_other() -> None:
    draw = torch.Generator().manual_seed(1)
    a, b = (torch.randn(300, 500, generator=draw, dtype=torch.float64) for _ in range(2))
    values = np.stack([read(a, b, seed) for seed in range(8)])
    top = float(torch.linalg.svdvals(a)[0])
    assert np.abs(values.mean(axis=0)).max() < 0.05 * top and abs(values.mean()) < 0.01 * top


def test_a_value_along_given_directions_is_unbiased() -> None:
    gradient = matrix(200, 300, [1.0] * 3 + [0.2] * 197)
    basis = torch.Generator().manual_seed(2)
    left, right = (
        torch.linalg.qr(torch.randn(width, 20, generator=basis, dtype=torch.float64)).Q for width in gradient.shape
    )
    true = Dense(gradient).along(left, right)
    found = torch.stack([sketch(gradient, 0, seed).along(left, right) for seed in range(200)])
    error = found.std(0) / 200**0.5
    assert ((found.mean(0) - true).abs() < 4.5 * error).all()
    deviation = (gradient @ right).norm(dim=0) / (128 - 20) ** 0.5
    assert (found.std(0) / deviation).mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_inner_product_is_unbiased_and_nearly_exact(noise: float) -> None:
    draw, gradient = torch.Generator().manual_seed(3), matrix(256, 200, [2.0, 1.6, 1.2, 1.0, 0.5, 0.2])
    a, b = (
        gradient + noise / (256 * 200) ** 0.5 * torch.randn(256, 200, generator=draw, dtype=torch.float64)
        for _ in range(2)
    )
    true = float((a * b).sum())
    found = np.array([inner(sketch(a, 0, seed), sketch(b, 1, seed)) for seed in range(60)])
    assert abs(found.mean() - true) < 4 * found.std() / 60**0.5 + 1e-9
    assert found.std() < (1e-9 if noise == 0 else 0.03 * true)
    squares = np.array([inner(sketch(a, 0, seed), sketch(a, 0, seed)) for seed in range(60)])
    assert abs(squares.mean() - float(a.square().sum())) < 4 * squares.std() / 60**0.5 + 1e-9


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_degenerate_matrices_give_numbers(rank: int) -> None:
    values = [1.0] * rank
    gradient = matrix(150, 220, values) if rank else torch.zeros(150, 220, dtype=torch.float64)
    zero = torch.zeros_like(gradient)
    np.testing.assert_allclose(read(gradient, gradient), values + [0.0] * (RANKS - rank), atol=1e-6)
    assert inner(sketch(gradient, 0), sketch(gradient, 1)) == pytest.approx(rank, abs=1e-6)
    assert inner(sketch(gradient, 0), sketch(zero, 1)) == 0 and not read(gradient, zero).any()
    torch.testing.assert_close(sketch(gradient, 0).dense(), gradient, atol=1e-6, rtol=0)


def test_sketches_add_up() -> None:
    draw = torch.Generator().manual_seed(4)
    a, b = (torch.randn(90, 70, generator=draw, dtype=torch.float64) for _ in range(2))
    parts, whole = [sketch(one, 0) for one in (a, b)], sketch(a + b, 0)
    torch.testing.assert_close(parts[0].right + parts[1].right, whole.right)
    torch.testing.assert_close(parts[0].left + parts[1].left, whole.left)


def test_the_halves_have_signs_of_their_own_on_one_side_alone() -> None:
    first, second = Signs(16, 0, 0), Signs(16, 0, 1)
    assert torch.equal(first.right(50), second.right(50)) and not torch.equal(first.left(50), second.left(50))
    assert not torch.equal(first.right(50), Signs(16, 1, 0).right(50))
    assert all(torch.equal(a, b) for a, b in zip(first.project((90, 90)), second.project((90, 90)), strict=True))


@pytest.mark.parametrize(
    ("shape", "sketch", "exact"), [((128, 128), 128, True), ((2048, 2048), 128, False), ((2048, 2048), 0, True)]
)
def test_what_takes_less_memory_is_chosen(shape: tuple[int, int], sketch: int, exact: bool) -> None:
    assert is_exact(shape, sketch) is exact
