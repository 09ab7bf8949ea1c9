"""Second moments of what passes through an adapter's updates, and what they predict a truncation to cost.

Truncating changes a module's update by -E. At token i of a song the output then moves by -E x_i, and with g_i the
gradient of the song's loss at that output the loss changes by

    -sum_i g_i' E x_i + 1/2 sum_ij (E x_i)' N_ij (E x_j),    N_ij the Gauss-Newton block of tokens i and j.

With v the velocity, J_i = dv/dy_i and c the second derivative of the distance, N_ij = J_i' diag(c / outputs) J_j. A
draw e ~ N(0, diag(c / outputs)) sent back from the velocity gives h_i = J_i' e with E[h_i h_j'] = N_ij (Schraudolph
2002; Martens 2014). So the second term is E[<E, D>^2] / 2 with D = sum_i h_i x_i', exactly. In the coordinates of the
update's singular vectors, p_i = U'h_i and z_i = V'x_i, only sums of rank x rank are needed:

    H = mean_i z_i z_i',   G = sum_i p_i p_i',   M = sum_i p_i z_i',   first = sum_i (U'g_i) z_i'.

KFAC-expand (Martens and Grosse 2015; Eschenhagen et al. 2023) takes p and z for independent and tokens for
uncorrelated: with E = U C V', E[<C, M>^2] = tr(C'G C H). That leaves out i != j, tokens that move the same outputs
together. Its total is therefore set to the exact one: G is multiplied by E|M|^2 / (tr G tr H), both in coordinates
weighted by diag(s), so that the mean over all directions is right and only their shape is KFAC's. Between modules all
is taken to add up: what truncating several does together is left out, and with it part of a large change.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from acetrain.analysis.truncate import Seen, Truncation


@dataclass
class Moments:
    """Weighted sums over songs, times and draws of one module; fp64, on the CPU."""

    inputs: Float64[Tensor, "rank rank"]
    gradients: Float64[Tensor, "rank rank"]
    first: Float64[Tensor, "rank rank"]
    squared: float = 0.0
    """|M|^2 between coordinates weighted by s^(1/2)."""

    @classmethod
    def of(cls, rank: int) -> "Moments":
        """Nothing seen yet."""
        return cls(torch.zeros(rank, rank).double(), torch.zeros(rank, rank).double(), torch.zeros(rank, rank).double())

    @property
    def finite(self) -> bool:
        """Whether no sum has overflown or become NaN."""
        sums = (self.inputs, self.gradients, self.first, torch.tensor(self.squared))
        return all(bool(one.isfinite().all()) for one in sums)

    def seen(self, s: Float[Tensor, " rank"]) -> Seen:
        """The moments that truncation goes by, their product brought to its exact total."""
        traces = ((self.inputs.diagonal() * s).sum() * (self.gradients.diagonal() * s).sum()).item()
        return Seen(self.inputs, self.gradients * (self.squared / traces if traces > 0 else 1.0))


@dataclass(frozen=True)
class Predicted:
    """What truncating a module is predicted to change in the loss."""

    linear: float
    quadratic: float

    @property
    def total(self) -> float:
        return self.linear + self.quadratic


def predicted(found: Truncation, moments: Moments, rank: int) -> Predicted:
    """The change of loss when a module's update is truncated to `rank`."""
    error = torch.diag(found.whole.s) - found.core(rank)
    seen = moments.seen(found.whole.s)
    assert seen.gradients is not None
    curved = (error.T @ seen.gradients @ error * seen.inputs).sum().item()
    return Predicted(-(error * moments.first).sum().item(), 0.5 * curved)
