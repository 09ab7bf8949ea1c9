"""The path and the loss against their equations."""

import torch

from acetrain.flow.loss import Mse
from acetrain.flow.path import interpolate, target


def test_the_path_runs_from_data_to_noise_with_the_target_as_its_slope() -> None:
    data, noise = torch.randn(2, 3, 5, 4, dtype=torch.float64).unbind()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    x_t = interpolate(data, noise, t)
    assert torch.equal(x_t[0], data[0]) and torch.equal(x_t[2], noise[2])
    ahead = interpolate(data, noise, t + 1e-6)
    assert torch.allclose((ahead - x_t) / 1e-6, target(data, noise), atol=1e-6)


def test_the_loss_of_a_song_is_the_mean_over_its_own_frames() -> None:
    velocity, goal = torch.randn(2, 2, 6, 3).unbind()
    velocity[1, 4:] = float("nan")
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    losses = Mse().song_losses(velocity, goal, valid, torch.tensor([0.5, 0.5]))
    alone = torch.stack([((velocity[0] - goal[0]) ** 2).mean(), ((velocity[1, :4] - goal[1, :4]) ** 2).mean()])
    assert torch.allclose(losses, alone)


def test_padding_passes_no_gradient() -> None:
    velocity = torch.randn(1, 6, 3, requires_grad=True)
    valid = torch.tensor([[True] * 4 + [False] * 2])
    Mse().song_losses(velocity, torch.zeros(1, 6, 3), valid, torch.tensor([0.5])).sum().backward()
    assert velocity.grad is not None
    assert velocity.grad[0, :4].abs().min() > 0 and velocity.grad[0, 4:].abs().max() == 0
