"""Quantile functions of timestep densities: one function serves sampling, stratification and the validation grid.

Each inverts its CDF to rounding: in fp64, F(quantile(u)) = u within 1e-12.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def larger_logit_normal(u: Float[Tensor, "*n"], mean: float, std: float) -> Float[Tensor, "*n"]:
    """The larger of two logit-normal draws: CDF Phi((logit t - mean) / std)^2 (upstream `sample_t_r`)."""
    return torch.sigmoid(mean + std * torch.special.ndtri(torch.sqrt(u)))


def logit_normal(u: Float[Tensor, "*n"], mean: float, std: float) -> Float[Tensor, "*n"]:
    """sigmoid(N(mean, std)): CDF Phi((logit t - mean) / std) (Esser et al. 2024, equation 19)."""
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


def uniform(u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The uniform density on (0, 1)."""
    return u


def mode(u: Float[Tensor, "*n"], scale: float) -> Float[Tensor, "*n"]:
    """u - scale * (sin^2(pi u / 2) - u): f_mode(1 - u; scale) of Esser et al. 2024, equation 20, so that it ascends."""
    return u - scale * (torch.sin(math.pi * u / 2) ** 2 - u)


def cosmap(u: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """1 - 1 / (tan(pi u / 2) + 1): density 2 / (pi (1 - 2t + 2t^2)) (Esser et al. 2024, equation 21)."""
    return 1 - 1 / (torch.tan(math.pi * u / 2) + 1)


def beta(u: Float[Tensor, "*n"], a: float, b: float) -> Float[Tensor, "*n"]:
    """The inverse of the regularised incomplete beta function: density t^(a-1) (1-t)^(b-1) / B(a, b)."""
    from scipy.special import betaincinv

    return torch.as_tensor(betaincinv(a, b, u.double().cpu().numpy())).to(u)


def discrete(u: Float[Tensor, "*n"], levels: Float[Tensor, " level"]) -> Float[Tensor, "*n"]:
    """Equal weight on each of the ascending `levels`."""
    return levels[(u * len(levels)).long().clamp(max=len(levels) - 1)]


def shifted(t: Float[Tensor, "*n"], shift: float) -> Float[Tensor, "*n"]:
    """s*t / (1 + (s-1)*t): monotone, moves mass towards noise for s above 1 (Esser et al. 2024, section 5.3.2)."""
    return shift * t / (1 + (shift - 1) * t)
