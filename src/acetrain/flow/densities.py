"""Quantile functions of timestep densities: one function serves sampling, stratification and the validation grid."""

import torch
from jaxtyping import Float
from torch import Tensor


def larger_logit_normal(u: Float[Tensor, "*n"], mean: float, std: float) -> Float[Tensor, "*n"]:
    """The larger of two logit-normal draws: CDF Phi((logit t - mean) / std)^2 (upstream `sample_t_r`)."""
    return torch.sigmoid(mean + std * torch.special.ndtri(torch.sqrt(u)))


def uniform(u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The uniform density on (0, 1)."""
    return u


def discrete(u: Float[Tensor, "*n"], steps: int, shift: float) -> Float[Tensor, "*n"]:
    """Equal weight on the `steps` times at which a sampler with this shift evaluates the model."""
    levels = shifted(torch.arange(1, steps + 1, dtype=u.dtype, device=u.device) / steps, shift)
    return levels[(u * steps).long().clamp(max=steps - 1)]


def shifted(t: Float[Tensor, "*n"], shift: float) -> Float[Tensor, "*n"]:
    """s*t / (1 + (s-1)*t): monotone, moves mass towards noise for s above 1 (Esser et al. 2024, section 5.3.2)."""
    return shift * t / (1 + (shift - 1) * t)
