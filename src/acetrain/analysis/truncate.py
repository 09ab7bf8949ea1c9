"""The best update of lower rank: by the weights, by what it does to real inputs, by what it does to the loss.

Everything happens in the coordinates of the update's own singular vectors: dW = U diag(s) V', with `s` above rounding
alone. There z = V'x are the coordinates of an input and p = U'g those of a gradient at the outputs, and for matrices
H = E[zz'] and G = E[pp'] over real tokens

    |dW - dW_k|^2                      is smallest for the SVD of diag(s)                     (`weights`)
    E|(dW - dW_k) x|^2                 is smallest for the SVD of diag(s) H^(1/2)             (`activations`)
    E[g'(dW - dW_k) x]^2 = |G^(1/2) (core - core_k) H^(1/2)|^2  for that of G^(1/2) diag(s) H^(1/2)   (`loss`)

by Eckart and Young (1936), as G^(1/2) core_k H^(1/2) can be any matrix of rank k. With P the left singular vectors,
core_k = G^(-1/2) P_k P_k' G^(1/2) diag(s), so that H is never inverted and k = rank gives the update itself, whatever
was seen. The activation-aware form is that of ASVD and SVD-LLM (Yuan et al. 2023, Wang et al. 2024) in the rank's own
coordinates; the two-sided one is the Kronecker-factored Fisher's (Hsu et al. 2022, Martens and Grosse 2015).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.adapters.low_rank import LowRank

FLOOR = 1e-12
"""Least eigenvalue of H and G as a share of their mean one: what no song showed still counts, in its weights' order,
and G can be inverted."""
UNSEEN = 1e-100
"""The same where no token came by at all."""


@dataclass(frozen=True)
class Decomposed:
    """An update as U diag(s) V', of its numerical rank, in fp64."""

    u: Float[Tensor, "output rank"]
    s: Float[Tensor, " rank"]
    """Falling, above 0; none of an update that is zero."""
    v: Float[Tensor, "input rank"]
    kernel: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The update's numerical rank."""
        return len(self.s)

    @property
    def cost(self) -> int:
        """Parameters that one rank takes."""
        return self.u.shape[0] + self.v.shape[0]

    def factors(self, balanced: bool = True, strength: float = 1.0) -> LowRank:
        """B and A, of rank 1 at least: B / strength and A of the same norm in every rank, or A of orthonormal rows.

        Of an update that is zero B is zero and A is not, so that training can go on.
        """
        if not self.rank:
            zero, level = self.u.new_zeros(len(self.u), 1), self.v.new_full((1, len(self.v)), len(self.v) ** -0.5)
            return LowRank(zero, level, self.kernel)
        root = (self.s / abs(strength)).sqrt() if balanced else torch.ones_like(self.s)
        return LowRank(self.u * (self.s / root), (self.v * root).T, self.kernel)


def decompose(update: LowRank) -> Decomposed:
    """The thin SVD of B A without forming it: QR of B and of A', and the SVD of the product of their triangles.

    Singular values at the level of rounding (eps times the longer side times |B||A|) are left out.
    """
    q_b, r_b = torch.linalg.qr(update.b.double())
    q_a, r_a = torch.linalg.qr(update.a.double().T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    rounding = torch.finfo(torch.float64).eps * max(update.shape) * r_b.norm() * r_a.norm()
    rank = int((s > rounding).sum())
    return Decomposed(q_b @ u[:, :rank], s[:rank], q_a @ v[:rank].T, update.kernel)


@dataclass(frozen=True)
class Seen:
    """Second moments of one module's tokens, in the coordinates of its update's singular vectors."""

    inputs: Float[Tensor, "rank rank"]
    """H = E[zz'], z = V'x."""
    gradients: Float[Tensor, "rank rank"] | None = None
    """G = E[pp'], p = U'g, summed over a song's tokens; None where only inputs are known."""


@dataclass(frozen=True)
class Truncation:
    """The best updates of every rank in one metric."""

    whole: Decomposed
    values: Float[Tensor, " rank"]
    """Singular values in the metric, falling; the squares of those left out sum to the metric's error."""
    left: Float[Tensor, "rank rank"]
    """G^(-1/2) P; by the weights it and `right` are one identity."""
    right: Float[Tensor, "rank rank"]
    """P' G^(1/2)."""

    def core(self, rank: int) -> Float[Tensor, "rank rank"]:
        """The best update of `rank` between the singular vectors: dW_k = U core V'."""
        return self.left[:, :rank] @ self.right[:rank] * self.whole.s

    def at(self, rank: int) -> Decomposed:
        """The best update of `rank`, in singular vectors of its own."""
        kept = slice(0, min(rank, self.whole.rank))
        if self.left is self.right:
            return Decomposed(self.whole.u[:, kept], self.whole.s[kept], self.whole.v[:, kept], self.whole.kernel)
        u, s, v = torch.linalg.svd(self.core(rank))
        return Decomposed(self.whole.u @ u[:, kept], s[kept], self.whole.v @ v[kept].T, self.whole.kernel)

    @cached_property
    def energies(self) -> list[float]:
        """Squares of the singular values in the metric."""
        return self.values.square().tolist()

    def retained(self, rank: int) -> float:
        """Share of the squared singular values in the metric that `rank` keeps; 1 of an update that is zero."""
        total = math.fsum(self.energies)
        return math.fsum(self.energies[:rank]) / total if total else 1.0


def truncations(whole: Decomposed, seen: Seen | None = None) -> Truncation:
    """The best updates of every rank: by the weights, by inputs, or with `gradients` seen by the loss."""
    one = torch.eye(whole.rank, dtype=torch.float64)
    if seen is None:
        return Truncation(whole, whole.s, one, one)
    h = _root(seen.inputs, 0.5)
    g, inverse = (one, one) if seen.gradients is None else (_root(seen.gradients, 0.5), _root(seen.gradients, -0.5))
    p, values, _ = torch.linalg.svd((g * whole.s) @ h)
    return Truncation(whole, values, inverse @ p, p.T @ g)


def _root(moment: Float[Tensor, "rank rank"], power: float) -> Float[Tensor, "rank rank"]:
    """A power of a matrix of second moments, its eigenvalues lifted to the floor."""
    moment = moment.double()
    if not len(moment):
        return moment
    values, vectors = torch.linalg.eigh(0.5 * (moment + moment.T))
    floor = max(FLOOR * moment.diagonal().mean().item(), UNSEEN)
    return vectors * values.clamp_min(floor).pow(power) @ vectors.T
