"""Importance sampling of timesteps: bins of equal mass drawn as often as their running losses say, and weighted back.

Running losses are [2, bin] in fp64: for each bin the sum of what its songs lost, later songs counting more, and the sum
of the same factors. Their quotient is the bin's running loss; no song has been there where the latter is 0.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

Running = Float64[Tensor, "2 bin"]


def nothing_yet(bins: int) -> Running:
    """Running losses before the first step."""
    return torch.zeros(2, bins, dtype=torch.float64)


def frequencies(running: Running, floor: float) -> Float64[Tensor, " bin"]:
    """How often each bin is drawn: a share `floor` of the draws evenly, the others in proportion to the running loss.

    A bin no song has been in counts as the mean of the others; all are alike while nothing is lost anywhere.
    """
    lost, seen = running
    known = seen > 0
    if not lost.any():
        return torch.full_like(lost, 1 / len(lost))
    losses = torch.where(known, lost / seen.where(known, 1.0), 0.0)
    losses = torch.where(known, losses, losses[known].mean())
    return floor / len(lost) + (1 - floor) * losses / losses.sum()


def aimed(
    u: Float64[Tensor, " song"], often: Float64[Tensor, " bin"]
) -> tuple[Float64[Tensor, " song"], Float64[Tensor, " song"], Int64[Tensor, " song"]]:
    """Uniform u made to fall into bins of [0, 1) as `often` as said; each with its weight, once over how much oftener
    than evenly its bin is drawn, and its bin. The mean of weight x f stays that of f over uniform u, for any f."""
    edges = torch.cat([often.new_zeros(1), often.cumsum(0)])
    bins = torch.searchsorted(edges[1:-1].contiguous(), u, right=True)
    within = ((u - edges[bins]) / often[bins]).clamp(0, 1)
    return (bins + within) / len(often), 1 / (len(often) * often[bins]), bins


def followed(running: Running, lost: Float64[Tensor, " bin"], songs: Float64[Tensor, " bin"], decay: float) -> Running:
    """Running losses after a step in which `songs` songs fell into each bin and `lost` so much together.

    n songs leave decay^n of what was there: the order of songs within a step plays no part.
    """
    kept = decay**songs
    mean = lost / songs.clamp(min=1)
    return kept * running + (1 - kept) * torch.stack([mean, torch.ones_like(mean)])
