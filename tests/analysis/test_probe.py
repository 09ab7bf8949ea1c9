"""Gradients taken by hooks against autograd's own, on the tiny base, with and without gradient checkpointing."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from fabricate import MSE, UNWEIGHTED, base, song
from torch import Tensor, nn

from acetrain.acestep.names import linear_layers
from acetrain.analysis.accumulate import COLUMNS, Accumulator, Sides, product
from acetrain.analysis.parts import Parts
from acetrain.analysis.probe import Probe, feature_norm
from acetrain.analysis.sizes import PROJECTED
from acetrain.analysis.sketch import Signs
from acetrain.data.batch import collate
from acetrain.errors import Failed
from acetrain.training.draws import fixed
from acetrain.training.objective import Objective

CPU = torch.device("cpu")
SONGS = (song(61, 20, seed=0), song(38, 11, seed=1))


@pytest.fixture
def objective() -> Objective:
    return Objective.on(base(), MSE, UNWEIGHTED, CPU)


def layers_of(objective: Objective) -> dict[str, nn.Linear]:
    names = linear_layers(objective.dit.config)
    found = {name: layer for name, layer in objective.dit.named_modules() if isinstance(layer, nn.Linear)}
    assert found.keys() == names.keys()
    return found


def loss(objective: Objective, index: int) -> Tensor:
    batch = collate([SONGS[index]], [(0, "test", f"{index}")], 1.0)
    return objective.song_losses(batch, fixed(batch, 0.4 + 0.1 * index, 0)).sum()


def gradients(objective: Objective, index: int) -> dict[str, Tensor]:
    """Autograd's own."""
    layers = layers_of(objective)
    weights = [layer.weight.requires_grad_(True) for layer in layers.values()]
    found = torch.autograd.grad(loss(objective, index), weights)
    for weight in weights:
        weight.requires_grad_(False)
    return dict(zip(layers, found, strict=True))


def collected(
    objective: Objective, sketch: int = 0, dtype: torch.dtype = torch.float32
) -> Mapping[str, dict[str, Tensor]]:
    """What two visits add up to for each module, each visit a group."""
    layers, sides = layers_of(objective), Sides(Signs(sketch, 0, 0), CPU, dtype)
    with TemporaryDirectory() as folder, Probe(layers) as probe:
        found = {name: Accumulator((one.out_features, one.in_features), sides) for name, one in layers.items()}
        probe.accumulators = found
        with Parts(Path(folder) / "state", found, 2) as parts:
            for index, weight in enumerate((0.25, 0.75)):
                probe.visit(loss(objective, index), weight)
                parts.keep(index)
            return {name: {**one.sums, "groups": parts.of(name)} for name, one in found.items()}


@pytest.mark.parametrize("every", [0, 1, 2])
def test_hooks_give_the_gradients_of_the_weights(objective: Objective, every: int) -> None:
    each = [gradients(objective, index) for index in (0, 1)]
    objective.dit.recompute(every)
    found = collected(objective)
    for name, sums in found.items():
        expected = 0.25 * each[0][name] + 0.75 * each[1][name]
        scale = expected.abs().max()
        assert (sums["matrix"] - expected).abs().max() < 1e-5 * scale
        squares = [float(one[name].square().sum()) for one in each]
        measured = sums["scalars"][:2].tolist()
        assert measured[0] == pytest.approx(0.25 * squares[0] + 0.75 * squares[1], rel=1e-4)
        assert measured[1] == pytest.approx(0.25 * squares[0] ** 0.5 + 0.75 * squares[1] ** 0.5, rel=1e-4)
        for group, (weight, one) in enumerate(zip((0.25, 0.75), each, strict=True)):
            part = weight * one[name]
            torch.testing.assert_close(sums["groups"][group], part, atol=float(1e-4 * part.abs().max()), rtol=0)


def test_sketches_are_those_of_the_gradients(objective: Objective) -> None:
    each = [gradients(objective, index) for index in (0, 1)]
    signs = Signs(8, 0, 0)
    for name, sums in collected(objective, sketch=8).items():
        expected = 0.25 * each[0][name] + 0.75 * each[1][name]
        outputs, inputs = expected.shape
        right, left = expected @ signs.right(inputs), signs.left(outputs).T @ expected
        torch.testing.assert_close(sums["right"], right, atol=float(1e-4 * right.abs().max()), rtol=0)
        torch.testing.assert_close(sums["left"], left, atol=float(1e-4 * left.abs().max()), rtol=0)
        sides = signs.project((outputs, inputs))
        part = 0.75 * sides[0].T @ each[1][name] @ sides[1] / PROJECTED
        torch.testing.assert_close(sums["groups"][1], part, atol=float(1e-4 * part.abs().max()), rtol=0)
        products = [(one[name] @ signs.right(inputs), signs.left(outputs).T @ one[name]) for one in each]
        squares = [sum(float(side.square().sum()) for side in sides) / 16 for sides in products]
        assert float(sums["scalars"][0]) == pytest.approx(0.25 * squares[0] + 0.75 * squares[1], rel=1e-3)


def test_no_weight_requires_a_gradient_or_gets_a_buffer_and_hooks_go(objective: Objective) -> None:
    collected(objective)
    assert all(not weight.requires_grad and weight.grad is None for weight in objective.dit.parameters())
    assert not any(layer._forward_hooks for layer in layers_of(objective).values())


def test_checkpointing_gives_the_same_bits(objective: Objective) -> None:
    kept = collected(objective)
    objective.dit.recompute(1)
    for name, sums in collected(objective).items():
        assert all(torch.equal(value, kept[name][part]) for part, value in sums.items())


def test_bf16_products_are_added_up_in_fp32() -> None:
    loaded = base()
    loaded.dit.bfloat16()
    objective = Objective.on(loaded, MSE, UNWEIGHTED, CPU)
    full = collected(Objective.on(base(), MSE, UNWEIGHTED, CPU))
    for name, sums in collected(objective, dtype=torch.bfloat16).items():
        matrix, expected = sums["matrix"], full[name]["matrix"]
        assert matrix.dtype is torch.float32
        assert float(nn.functional.cosine_similarity(matrix.flatten(), expected.flatten(), dim=0)) > 0.98, name


def test_a_random_weight_has_feature_norm_one_and_an_aligned_one_more() -> None:
    draw = torch.Generator().manual_seed(0)
    layer = nn.Linear(256, 512)
    x = torch.randn(64, 256, generator=draw)
    layer.weight.data = torch.randn(512, 256, generator=draw)
    scale = layer.weight.norm() / 16
    assert float(feature_norm(layer, scale, x, layer(x))) == pytest.approx(1.0, abs=0.02)
    layer.weight.data = torch.outer(torch.randn(512, generator=draw), x[0])
    assert float(feature_norm(layer, layer.weight.norm() / 16, x[:1], layer(x[:1]))) == pytest.approx(16.0, rel=1e-3)


def test_a_layer_without_part_in_the_loss_is_named() -> None:
    part, other = nn.Linear(4, 4), nn.Linear(4, 4)
    layers = {"part": part, "other": other}
    sides = Sides(Signs(0, 0, 0), CPU, torch.float32)
    with Probe(layers) as probe:
        probe.accumulators = {name: Accumulator((4, 4), sides) for name in layers}
        with pytest.raises(Failed, match="other has no part"):
            probe.visit(part(torch.ones(2, 4)).sum(), 1.0)
    with Probe(layers) as probe:
        probe.accumulators = {name: Accumulator((4, 4), sides) for name in layers}
        with pytest.raises(Failed, match="more than once"):
            probe.visit(part(part(torch.ones(2, 4))).sum(), 1.0)


def test_parts_too_large_to_keep_are_projected_without_bias() -> None:
    draw = torch.Generator().manual_seed(0)
    g, h = (torch.randn(400, 350, generator=draw) + 1 for _ in range(2))
    true, found = float((g * h).sum()), []
    for seed in range(40):
        parts = []
        for gradient in (g, h):
            accumulator = Accumulator((400, 350), Sides(Signs(0, seed, 0), CPU, torch.float32))
            accumulator.add(gradient.T.contiguous(), torch.eye(350), torch.ones(()), 1.0)
            assert accumulator.part.shape == (PROJECTED, PROJECTED)
            parts.append(accumulator.part)
        found.append(float((parts[0] * parts[1]).sum()))
    mean, error = float(torch.tensor(found).mean()), float(torch.tensor(found).std()) / 40**0.5
    assert abs(mean - true) < 4 * error < 0.2 * true


def test_wide_products_of_bf16_are_made_in_pieces_and_are_those_of_fp32() -> None:
    draw = torch.Generator().manual_seed(0)
    dy, x = (torch.randn(7, width, generator=draw).bfloat16() for width in (COLUMNS + 9, 5))
    for a, b in ((dy, x), (x, dy)):
        torch.testing.assert_close(product(a, b), a.float().T @ b.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sketch", [0, 2])
def test_a_layer_whose_gradient_is_not_finite_is_named(sketch: int) -> None:
    layers = {name: nn.Linear(8, 8, bias=False) for name in ("sound", "broken")}
    sides = Sides(Signs(sketch, 0, 0), CPU, torch.float32)
    with Probe(layers) as probe:
        probe.accumulators = {name: Accumulator((8, 8), sides) for name in layers}
        between = layers["broken"](torch.ones(3, 8)) * 1e30
        probe.visit(layers["sound"](torch.ones(3, 8)).sum() + between.sum(), 1.0)
        assert probe.broken() == "broken"
