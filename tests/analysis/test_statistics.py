"""Moments of tokens, and the change of loss they predict, against what truncating really changes."""

import fabricate
import pytest
import torch
from fabricate import ACESTEP, MODEL, MSE, UNWEIGHTED
from test_truncate import drawn
from torch import Tensor, nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import load_base
from acetrain.acestep.names import linear_layers
from acetrain.analysis.beside import Beside
from acetrain.analysis.moments import Moments, predicted
from acetrain.analysis.statistics import Observer, derivatives
from acetrain.analysis.truncate import Decomposed, Seen, decompose, truncations
from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache
from acetrain.errors import Failed, Refused
from acetrain.flow.loss import Huber, LogCosh, Loss, Mse, Reduction
from acetrain.training.draws import fixed
from acetrain.training.judging import Jury, middle_quantiles
from acetrain.training.objective import Objective

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.1.mlp.down_proj", "layers.2.cross_attn.to_v", "time_embed.linear_1"]


class Net(MaskedDiT):
    """A single linear layer of the noisy latents: the loss is a quadratic function of its weight."""

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.layer = nn.Linear(width, width, bias=False)

    def velocity(self, x_t, t, condition, context, frames, tokens) -> Tensor:  # pyright: ignore
        return self.layer(x_t)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache.open(fabricate.cache(tmp_path_factory.mktemp("cache"), 3))


def on(dit: MaskedDiT, loss: Loss = MSE) -> Objective:
    return Objective(dit.requires_grad_(False), torch.zeros(fabricate.WIDTH), silence(), loss, UNWEIGHTED)


def silence() -> Tensor:
    return fabricate.base().silence


def measured(
    cache: Cache, objective: Objective, times: list[float], updates: dict[str, Decomposed], used: dict
) -> float:
    """The mean loss with these updates, on the noise that moments are taken with."""
    losses = []
    beside = Beside(updates)
    with torch.no_grad(), beside.added_to(objective.dit):
        beside.use(used, torch.device("cpu"))
        for song in cache.songs:
            batch = collate([cache.read(song)], [("statistics", song.name)], 0.0)
            losses += [objective.song_losses(batch, fixed(batch, t, 0, place)) for place, t in enumerate(times)]
    return torch.cat(losses).double().mean().item()


def test_where_the_loss_is_quadratic_the_prediction_is_the_change(cache: Cache) -> None:
    torch.manual_seed(0)
    width = fabricate.CHANNELS
    objective, times = on(Net(width)), [0.3, 0.7]
    updates = {"layer": decompose(drawn(width, width, 6).times(0.3))}
    moments = Observer(cache, cache.songs, times, 24, 0).moments(objective, updates, lambda: None)
    whole = measured(cache, objective, times, updates, updates)
    for by in (None, Seen(moments["layer"].inputs), moments["layer"].seen(updates["layer"].s)):
        one = truncations(updates["layer"], by)
        for rank in (0, 1, 3, 5):
            expected = predicted(one, moments["layer"], rank)
            change = measured(cache, objective, times, updates, {"layer": one.at(rank)} if rank else {}) - whole
            assert expected.linear + expected.quadratic == expected.total
            assert expected.total == pytest.approx(change, rel=0.03, abs=0.03 * expected.quadratic)


def test_by_the_loss_half_the_squares_left_out_are_the_quadratic_change(cache: Cache) -> None:
    torch.manual_seed(0)
    updates = {"layer": decompose(drawn(fabricate.CHANNELS, fabricate.CHANNELS, 6))}
    moments = Observer(cache, cache.songs, [0.5], 2, 0).moments(on(Net(fabricate.CHANNELS)), updates, lambda: None)
    one = truncations(updates["layer"], moments["layer"].seen(updates["layer"].s))
    for rank in range(6):
        half = 0.5 * one.values[rank:].square().sum().item()
        assert predicted(one, moments["layer"], rank).quadratic == pytest.approx(half, rel=1e-6)


def test_on_the_tiny_base_a_small_change_is_predicted(cache: Cache) -> None:
    dit = load_base(MODEL, torch.float32).dit
    objective, times = on(dit), middle_quantiles(ACESTEP, 3)
    updates = {name: decompose(drawn(*LAYERS[name], 6, seed).times(0.02)) for seed, name in enumerate(NAMES)}
    moments = Observer(cache, cache.songs, times, 2, 0).moments(objective, updates, lambda: None)
    whole = measured(cache, objective, times, updates, updates)
    found = {name: truncations(one, moments[name].seen(one.s)) for name, one in updates.items()}
    expected = [predicted(found[name], moments[name], 4).total for name in NAMES]
    change = measured(cache, objective, times, updates, {name: one.at(4) for name, one in found.items()}) - whole
    assert sum(expected) == pytest.approx(change, rel=0.1)


def test_blocks_that_are_computed_again_show_the_same(cache: Cache) -> None:
    updates = {name: decompose(drawn(*LAYERS[name], 3).times(0.02)) for name in NAMES}
    found = []
    for every in (0, 1):
        dit = load_base(MODEL, torch.float32).dit
        dit.recompute(every)
        found.append(Observer(cache, cache.songs[:1], [0.4, 0.6], 2, 0).moments(on(dit), updates, lambda: None))
    for name in NAMES:
        for part in ("inputs", "gradients", "first"):
            kept, again = (getattr(moments[name], part) for moments in found)
            assert torch.allclose(kept, again, rtol=1e-6, atol=0) and kept.abs().max() > 0, (name, part)


def test_an_update_that_overflows_is_named_with_its_song(cache: Cache) -> None:
    updates = {name: decompose(drawn(*LAYERS[name], 3).times(1e30)) for name in NAMES}
    observer = Observer(cache, cache.songs[:1], [0.5], 1, 0)
    with pytest.raises(Failed, match=rf"{cache.songs[0].name}: what passes through layers.*; precision=fp32 may help"):
        observer.moments(on(load_base(MODEL, torch.float32).dit), updates, lambda: None)


def test_moments_repeat_to_the_bit_and_count_songs_by_the_reduction(cache: Cache) -> None:
    width = fabricate.CHANNELS
    updates = {"layer": decompose(drawn(width, width, 3))}

    def taken(reduction: Reduction, songs: int = 3) -> Moments:
        torch.manual_seed(0)
        observer = Observer(cache, cache.songs[:songs], [0.4], 1, 0)
        return observer.moments(on(Net(width), Mse(reduction)), updates, lambda: None)["layer"]

    by_song, by_frame = taken(Reduction.song), taken(Reduction.frame)
    assert (
        torch.equal(by_song.inputs, taken(Reduction.song).inputs) and by_song.squared == taken(Reduction.song).squared
    )
    assert not torch.allclose(by_song.inputs, by_frame.inputs, rtol=1e-6)
    z = []
    for song in cache.songs:
        batch = collate([cache.read(song)], [("statistics", song.name)], 0.0)
        draws = fixed(batch, 0.4, 0, 0)
        z.append((0.4 * draws.noise + 0.6 * batch.latents)[0].double() @ updates["layer"].v)
    rows = torch.cat(z)
    assert torch.allclose(by_frame.inputs, rows.T @ rows / len(rows), rtol=1e-4)
    assert torch.allclose(by_song.inputs, sum(part.T @ part / len(part) for part in z) / 3, rtol=1e-4)  # pyright: ignore


@pytest.mark.parametrize("loss", [MSE, Huber(Reduction.song, 0.7), LogCosh(Reduction.song)])
def test_derivatives_are_those_of_the_song_losses(loss: Loss) -> None:
    songs = [fabricate.song(frames, 10, frames) for frames in (5, 8)]
    batch: Batch = collate(songs, [(0, 0, "a", 0), (0, 0, "b", 0)], 0.5)
    draws, objective = fixed(batch, 0.5, 0), on(Net(fabricate.CHANNELS), loss)
    difference = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(8) < torch.tensor(batch.frames).unsqueeze(1)

    def total(moved: Tensor) -> Tensor:
        return loss.song_losses(moved, torch.zeros_like(moved), valid).sum()

    slope, bend = derivatives(objective, difference, batch, draws)
    assert torch.allclose(slope, torch.autograd.functional.jacobian(total, difference), atol=1e-7)
    along = torch.ones_like(difference)
    expected = torch.autograd.functional.hvp(total, difference, along)[1]
    assert isinstance(expected, Tensor) and torch.allclose(bend, expected, atol=1e-7)


def test_an_adapter_of_another_base_is_refused_by_the_name_of_its_module() -> None:
    dit = load_base(MODEL, torch.float32).dit
    for name, message in (
        ("layers.0.self_attn.to_q", r"for another base: layers.0.self_attn.q_proj is \[9, 7\] there and \["),
        ("layers.77.mlp.up_proj", r"for another base: layers.77.mlp.up_proj is no layer of this one"),
    ):
        with pytest.raises(Refused, match=message), Beside({name: decompose(drawn(9, 7, 2))}).added_to(dit):
            pass


def test_an_update_beside_a_convolution_is_that_of_its_weight() -> None:
    dit = load_base(MODEL, torch.float32).dit
    layer = dit.get_submodule("proj_in_conv")
    weight = layer.weight
    assert isinstance(weight, Tensor)
    update = drawn(weight.shape[0], weight[0].numel(), 3)
    whole = decompose(type(update)(update.b, update.a, tuple(weight.shape[2:])))
    x = torch.randn(2, weight.shape[1], 12, generator=torch.Generator().manual_seed(0))
    plain = layer(x)
    with Beside({"proj_in_conv": whole}).added_to(dit):
        moved = layer(x)
    weight.data += update.dense().view(weight.shape)
    assert torch.allclose(moved, layer(x), atol=1e-3)
    assert (moved - plain).abs().max() > 1


def test_a_jury_hears_the_updates(cache: Cache) -> None:
    dit = load_base(MODEL, torch.float32).dit
    updates = {NAMES[0]: decompose(drawn(*LAYERS[NAMES[0]], 2).times(0.5))}
    jury, objective = Jury(cache, cache.songs, [0.5]), on(dit)
    without = jury.losses(objective, 6000)
    with Beside(updates).added_to(dit):
        assert not torch.allclose(jury.losses(objective, 6000), without)
    assert torch.equal(jury.losses(objective, 6000), without)
