"""The straight path between data (t = 0) and noise (t = 1) that ACE-Step is trained on."""

import torch
from jaxtyping import Float
from torch import Tensor


def interpolate(
    data: Float[Tensor, "song frame channel"], noise: Float[Tensor, "song frame channel"], t: Float[Tensor, " song"]
) -> Float[Tensor, "song frame channel"]:
    """x_t = t * noise + (1 - t) * data (rectified flow, Liu et al. 2022, with time running from data to noise)."""
    t = t.view(-1, 1, 1)
    return t * noise + (1 - t) * data


def target(data: Tensor, noise: Tensor) -> Tensor:
    """The velocity dx_t/dt = noise - data."""
    return torch.sub(noise, data)
