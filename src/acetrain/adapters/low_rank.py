"""What an adapter adds to a weight, as a product of two thin matrices."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """B A, the strength taken in: what is added to the weight of a linear layer, or of a convolution laid flat."""

    b: Float[Tensor, "output rank"]
    a: Float[Tensor, "rank input"]
    """Of a convolution, inputs times kernel, as its weight [output, input, *kernel] lies in memory."""
    kernel: tuple[int, ...] = ()
    """Sizes of a convolution's kernel; empty for a linear layer."""

    @property
    def rank(self) -> int:
        """Columns of B, which may be more than the product's rank."""
        return self.b.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and (flat) inputs."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def cost(self) -> int:
        """Parameters that one rank takes."""
        return sum(self.shape)

    def dense(self) -> Float[Tensor, "output input"]:
        """The product itself."""
        return self.b @ self.a

    def times(self, factor: float) -> "LowRank":
        """The update times a number."""
        return LowRank(self.b * factor, self.a, self.kernel)


def dense_update(weight: Float[Tensor, "output _ *kernel"]) -> LowRank:
    """A full update with the identity on its narrower side, so that it costs no decomposition to hold."""
    flat = weight.flatten(1)
    outputs, inputs = flat.shape
    if outputs <= inputs:
        return LowRank(torch.eye(outputs, dtype=flat.dtype), flat, tuple(weight.shape[2:]))
    return LowRank(flat, torch.eye(inputs, dtype=flat.dtype), tuple(weight.shape[2:]))


def hadamard(first: LowRank, second: LowRank) -> LowRank:
    """The product element by element, of rank at most the product of ranks: rows of B and columns of A multiply each
    with each (face-splitting and Khatri-Rao product; Slyusar 1999)."""
    if first.rank * second.rank >= min(first.shape):
        flat = dense_update(first.dense() * second.dense())
        return LowRank(flat.b, flat.a, first.kernel)
    b = (first.b[:, :, None] * second.b[:, None, :]).flatten(1)
    a = (first.a[:, None, :] * second.a[None, :, :]).flatten(0, 1)
    return LowRank(b, a, first.kernel)


def kronecker(first: LowRank, second: LowRank) -> LowRank:
    """The Kronecker product: (B1 A1) ⊗ (B2 A2) = (B1 ⊗ B2) (A1 ⊗ A2)."""
    return LowRank(torch.kron(first.b, second.b), torch.kron(first.a, second.a), second.kernel)
