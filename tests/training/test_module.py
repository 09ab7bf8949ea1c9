"""Law 2: a song's loss and gradient do not depend on what it is batched with or how the step is split."""

from itertools import permutations

import pytest
import torch
from fabricate import attached, module, song

from acetrain.adapters.injection import trainable
from acetrain.data.batch import Batch, collate
from acetrain.data.split import deal
from acetrain.training.draws import draw
from acetrain.training.module import FlowMatching

SONGS = [song(frames, tokens, seed) for seed, (frames, tokens) in enumerate([(201, 30), (150, 44), (90, 44), (37, 12)])]
KEYS = [(0, 3, f"song{index}.wav", 0) for index in range(len(SONGS))]


@pytest.fixture(scope="module")
def training() -> FlowMatching:
    return module(attached(), condition_dropout=0.4)


def batch(indices: tuple[int, ...]) -> Batch:
    return collate([SONGS[i] for i in indices], [KEYS[i] for i in indices], 1 / len(SONGS))


def losses(training: FlowMatching, indices: tuple[int, ...]) -> torch.Tensor:
    micro = batch(indices)
    return training.song_losses(micro, draw(micro, training.recipe.timesteps, training.recipe.condition_dropout))


def gradient(training: FlowMatching, groups: list[tuple[int, ...]]) -> torch.Tensor:
    """The gradient of a step split into `groups`."""
    for group in groups:
        (losses(training, group) / len(SONGS)).sum().backward()
    parameters = list(trainable(training.dit).values())
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    for parameter in parameters:
        parameter.grad = None
    return flat


@torch.no_grad()
@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_a_songs_loss_is_its_own(training: FlowMatching, order: tuple[int, ...]) -> None:
    alone = torch.cat([losses(training, (index,)) for index in order])
    assert torch.allclose(losses(training, order), alone, rtol=1e-5)


@pytest.mark.parametrize("max_frames", [1, 310, 500])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_gradient_is_the_mean_over_songs_however_split(training: FlowMatching, max_frames: int, ranks: int) -> None:
    whole = gradient(training, [(0, 1, 2, 3)])
    dealt = deal([len(latents) for latents, _ in SONGS], max_frames, ranks)
    split = gradient(training, [group for rank in dealt for group in rank])
    assert (split - whole).norm() / whole.norm() < 1e-5


def test_draws_belong_to_the_song(training: FlowMatching) -> None:
    timesteps = training.recipe.timesteps
    together = draw(batch((0, 1, 2, 3)), timesteps, 0.5)
    for index in range(4):
        alone = draw(batch((index,)), timesteps, 0.5)
        frames = len(SONGS[index][0])
        assert torch.equal(together.t[index], alone.t[0]) and together.dropped[index] == alone.dropped[0]
        assert torch.equal(together.noise[index, :frames], alone.noise[0])


def test_draws_follow_their_laws() -> None:
    keys = [(0, epoch, "a.wav", 0) for epoch in range(4000)]
    one = torch.zeros(1, 1)
    draws = draw(collate([(one, one)] * len(keys), keys, 1.0), module(attached()).recipe.timesteps, 0.15)
    assert draws.t.dtype is torch.float32 and len(draws.t.unique()) == len(keys)
    assert draws.t.mean().item() == pytest.approx(0.534, abs=0.015)
    assert draws.dropped.float().mean().item() == pytest.approx(0.15, abs=0.02)
    assert draws.noise.mean().item() == pytest.approx(0, abs=0.06) and draws.noise.std().item() == pytest.approx(
        1, abs=0.05
    )


def test_a_dropped_condition_is_the_null_condition_in_every_row(training: FlowMatching) -> None:
    micro = batch((0, 1))
    rows = training.flow.condition(micro, torch.tensor([True, False]))
    assert torch.equal(rows[0], training.null_condition.expand_as(rows[0]))
    assert torch.equal(rows[1], micro.condition[1])
