"""How far a predicted velocity is from its target, song by song."""

from jaxtyping import Bool, Float
from torch import Tensor


def song_mean(error: Float[Tensor, "song frame channel"], valid: Bool[Tensor, "song frame"]) -> Float[Tensor, " song"]:
    """The mean of `error` over each song's valid frames and channels; what stands in padded frames is not read."""
    kept = error.masked_fill(~valid.unsqueeze(-1), 0.0)
    return kept.sum(dim=(1, 2)) / (valid.sum(dim=1) * error.shape[2])
