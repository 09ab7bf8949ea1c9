"""How far a predicted velocity is from its target, song by song."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def squared(difference: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """d^2."""
    return difference**2


def huber(difference: Float[Tensor, "*n"], delta: float) -> Float[Tensor, "*n"]:
    """d^2 / 2 up to |d| = delta, delta (|d| - delta / 2) beyond (Huber 1964)."""
    return functional.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=delta)


def log_cosh(difference: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log cosh d, without overflow: near d^2 / 2 for small d, |d| - log 2 for large."""
    size = difference.abs()
    return size + functional.softplus(-2 * size) - math.log(2)


def song_mean(error: Float[Tensor, "song frame channel"], valid: Bool[Tensor, "song frame"]) -> Float[Tensor, " song"]:
    """The mean of `error` over each song's valid frames and channels; what stands in padded frames is not read."""
    kept = error.masked_fill(~valid.unsqueeze(-1), 0.0)
    return kept.sum(dim=(1, 2)) / (valid.sum(dim=1) * error.shape[2])
