"""Importance sampling of timesteps: unbiased whatever was lost, and in no need of more than one song a step."""

from dataclasses import replace

import pytest
import torch
from fabricate import attached, module, song
from torch import Tensor

from acetrain.data.batch import collate
from acetrain.flow.adaptive import Adaptive
from acetrain.flow.importance import aimed, followed, frequencies, nothing_yet
from acetrain.training.module import FlowMatching

GRID = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
RUNNING = torch.tensor([[2.0, 0.0, 0.3, 6.0], [1.0, 0.0, 0.6, 1.0]], dtype=torch.float64)
ADAPTIVE = Adaptive(1.0, 0.0, 1.0, False, -0.4, 1.0, bins=5, decay=0.9, floor=0.2)


def test_a_bin_is_drawn_by_its_running_loss_and_an_unknown_one_by_the_mean() -> None:
    assert frequencies(RUNNING, 0.2).tolist() == pytest.approx(
        [0.05 + 0.8 * part / 11.333333 for part in (2, 2.833333, 0.5, 6)], rel=1e-6
    )
    assert frequencies(RUNNING, 1.0).tolist() == [0.25] * 4
    assert frequencies(nothing_yet(4), 0.2).tolist() == [0.25] * 4


@pytest.mark.parametrize("floor", [0.05, 0.5, 1.0])
def test_weighted_draws_have_the_mean_of_the_density(floor: float) -> None:
    often = frequencies(RUNNING, floor)
    u, weights, bins = aimed(GRID, often)
    for loss in (u, u**2, torch.exp(-5 * u), (u > 0.6).double()):
        assert (weights * loss).mean().item() == pytest.approx(_plain(loss, u), abs=1e-4)
    assert weights.mean().item() == pytest.approx(1, abs=1e-4) and weights.max() <= 1 / floor
    assert (u.diff() > 0).all() and torch.equal(bins, (4 * u).long())
    assert (bins.bincount() / len(u)).tolist() == pytest.approx(often.tolist(), abs=1e-4)


def _plain(loss: Tensor, u: Tensor) -> float:
    """The integral of `loss`, known at u, over (0, 1)."""
    return torch.trapezoid(loss, u).item() + (loss[0] * u[0] + loss[-1] * (1 - u[-1])).item()


def test_draws_by_the_loss_vary_less() -> None:
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    steep = torch.tensor([[8.0, 4.0, 2.0, 1.0], [1.0] * 4], dtype=torch.float64)
    drawn, weights, _ = aimed(u, frequencies(steep, 0.1))
    assert (weights * 8 * torch.exp2(-4 * drawn)).var() < (8 * torch.exp2(-4 * u)).var() / 3


def test_running_losses_are_means_that_forget_alike_in_any_order() -> None:
    lost = torch.tensor([3.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 5.0], dtype=torch.float64)
    songs = torch.tensor([2.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 1.0], dtype=torch.float64)
    first = followed(nothing_yet(2), lost[0], songs[0], decay=0.5)
    assert first.tolist() == [[0.75 * 1.5, 0.0], [0.75, 0.0]]
    second = followed(first, lost[1], songs[1], decay=0.5)
    assert second.tolist() == [[0.5 * 1.125 + 0.5, 2.5], [0.875, 0.5]]
    constant = nothing_yet(1)
    for _ in range(7):
        constant = followed(constant, torch.full((1,), 6.0).double(), torch.full((1,), 2.0).double(), 0.9)
    assert (constant[0] / constant[1]).item() == pytest.approx(3.0)


SONGS = [song(frames, 12, seed=frames) for frames in (61, 44, 37, 30)]


def trained(steps: int, groups: list[tuple[int, ...]], songs: int) -> FlowMatching:
    """A module whose running losses have seen `steps` steps, each split into `groups`."""
    training = module(attached(), 0.0)
    training.recipe = replace(training.recipe, timesteps=ADAPTIVE)
    training.running = nothing_yet(5)
    training.manual_backward = lambda loss: None
    for step in range(steps):
        keys = [(0, step, f"{index}.wav", 0) for index in range(4)]
        batches = [collate([SONGS[i] for i in group], [keys[i] for i in group], 1 / songs) for group in groups]
        with torch.no_grad():
            lost, drawn = training._by_bin(training.accumulate(batches)).double().view(2, 5)
        training.running = ADAPTIVE.followed(training.running, lost, drawn)
    return training


def test_running_losses_are_the_same_however_a_step_is_split() -> None:
    whole = trained(6, [(0, 1, 2, 3)], 4).running
    split = trained(6, [(3,), (1, 0), (2,)], 4).running
    assert torch.allclose(whole, split, rtol=1e-5) and (whole[1] > 0).all()


def test_one_song_a_step_is_enough() -> None:
    training = trained(30, [(0,)], 1)
    often = frequencies(training.running, ADAPTIVE.floor)
    assert (training.running[1] > 0).all() and often.max() > 1.2 * often.min()


def test_a_batch_that_only_keeps_step_is_not_followed() -> None:
    training = trained(1, [(0, 1)], 2)
    filler = collate(SONGS[:1], [(0, 0, "0.wav", 0)], 0.0)
    with torch.no_grad():
        assert not training._by_bin(training.accumulate([filler])).any()
