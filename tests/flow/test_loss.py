"""Losses against their closed forms and torch's own; what counts in a step, by song and by frame."""

import math

import pytest
import torch
from fabricate import attached, module, song
from torch.nn import functional

from acetrain.adapters.injection import trainable
from acetrain.data.batch import Batch, collate
from acetrain.data.split import deal
from acetrain.flow.loss import Huber, LogCosh, Loss, Mse, Reduction
from acetrain.training.draws import draw
from acetrain.training.module import FlowMatching

LOSSES = [Mse(Reduction.song), Huber(Reduction.song, 0.7), LogCosh(Reduction.song)]
DIFFERENCES = torch.tensor([-30.0, -1.0, -0.7, -0.01, 0.0, 0.2, 0.7, 3.0, 2000.0])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Mse(Reduction.song), [900.0, 1.0, 0.49, 1e-4, 0.0, 0.04, 0.49, 9.0, 4e6]),
        (Huber(Reduction.song, 0.7), [20.755, 0.455, 0.245, 5e-5, 0.0, 0.02, 0.245, 1.855, 1399.755]),
        (
            LogCosh(Reduction.song),
            [29.306853, 0.433781, 0.227270, 5e-5, 0.0, 0.019868, 0.227270, 2.309329, 1999.306853],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_distances_are_those_of_the_table(loss: Loss, expected: list[float]) -> None:
    assert loss.distance(DIFFERENCES).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_huber_is_torchs_and_half_the_square_where_delta_is_large() -> None:
    one, other = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    theirs = functional.huber_loss(one, other, reduction="none", delta=0.3)
    assert torch.allclose(Huber(Reduction.song, 0.3).distance(one - other), theirs)
    assert torch.allclose(Huber(Reduction.song, 1e6).distance(one), one**2 / 2)


def test_the_gradient_of_log_cosh_is_tanh() -> None:
    difference = torch.linspace(-50, 50, 1001, dtype=torch.float64, requires_grad=True)
    LogCosh(Reduction.song).distance(difference).sum().backward()
    assert difference.grad is not None and torch.allclose(difference.grad, difference.detach().tanh(), atol=1e-14)
    assert LogCosh(Reduction.song).distance(torch.tensor(1.0)).item() == pytest.approx(math.log(math.cosh(1)))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_loss_of_a_song_is_the_mean_over_its_own_frames(loss: Loss) -> None:
    velocity, goal = torch.randn(2, 2, 6, 3, generator=torch.Generator().manual_seed(0)).unbind()
    velocity[1, 4:] = float("nan")
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    alone = [loss.distance(velocity[0] - goal[0]).mean(), loss.distance(velocity[1, :4] - goal[1, :4]).mean()]
    assert torch.allclose(loss.song_losses(velocity, goal, valid), torch.stack(alone))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_padding_passes_no_gradient(loss: Loss) -> None:
    velocity = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    valid = torch.tensor([[True] * 4 + [False] * 2])
    loss.song_losses(velocity, torch.zeros(1, 6, 3), valid).sum().backward()
    assert velocity.grad is not None
    assert velocity.grad[0, :4].abs().min() > 0 and velocity.grad[0, 4:].abs().max() == 0


def test_songs_count_alike_or_by_their_frames() -> None:
    assert Reduction.song.counts([3, 5]) == (1, 1) and Reduction.frame.counts([3, 5]) == (3, 5)


SONGS = [song(frames, tokens, seed) for seed, (frames, tokens) in enumerate([(201, 30), (150, 44), (90, 44), (37, 12)])]
LENGTHS = [len(latents) for latents, _ in SONGS]


@pytest.fixture(scope="module")
def by_frame() -> FlowMatching:
    return module(attached(), loss=Mse(Reduction.frame))


def batch(indices: tuple[int, ...]) -> Batch:
    """A micro-batch of a step over all songs."""
    keys = [(0, 3, f"song{index}.wav", 0) for index in indices]
    return collate([SONGS[index] for index in indices], keys, 1 / sum(LENGTHS))


def gradient(training: FlowMatching, loss: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(trainable(training.dit).values()))
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize(("max_frames", "ranks"), [(1, 1), (310, 1), (500, 2), (10**6, 1)])
def test_by_frame_the_gradient_is_the_mean_over_frames_however_split(
    by_frame: FlowMatching, max_frames: int, ranks: int
) -> None:
    def losses(indices: tuple[int, ...]) -> torch.Tensor:
        micro = batch(indices)
        found = by_frame.song_losses(micro, draw(micro, by_frame.recipe.timesteps, 0.0))
        return (found * by_frame.shares(micro)).sum()

    def errors(index: int) -> torch.Tensor:
        micro = batch((index,))
        return by_frame.song_losses(micro, draw(micro, by_frame.recipe.timesteps, 0.0))[0] * LENGTHS[index]

    whole = gradient(by_frame, sum((errors(index) for index in range(4)), torch.zeros(())) / sum(LENGTHS))
    dealt = [group for rank in deal(LENGTHS, max_frames, ranks) for group in rank if group]
    split = sum((gradient(by_frame, losses(group)) for group in dealt), torch.zeros(()))
    assert (split - whole).norm() / whole.norm() < 1e-5
