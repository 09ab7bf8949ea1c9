"""The path against its equations."""

import torch

from acetrain.flow.path import interpolate, target


def test_the_path_runs_from_data_to_noise_with_the_target_as_its_slope() -> None:
    data, noise = torch.randn(2, 3, 5, 4, dtype=torch.float64).unbind()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    x_t = interpolate(data, noise, t)
    assert torch.equal(x_t[0], data[0]) and torch.equal(x_t[2], noise[2])
    ahead = interpolate(data, noise, t + 1e-6)
    assert torch.allclose((ahead - x_t) / 1e-6, target(data, noise), atol=1e-6)
