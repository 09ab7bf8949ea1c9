"""Weights turned by orthogonal matrices instead of added to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Shapes
from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import Refused, require


@dataclass
class OFT(ThroughPeft):
    """Orthogonal finetuning: W R, R of orthogonal blocks (Qiu et al. 2023, by the Cayley-Neumann series of 2025)."""

    peft_type: ClassVar[str] = "OFT"

    block_size: int
    """Size of each block, at least 2; must divide the inputs of every selected module."""
    constrained: bool
    """Whether R is kept within `eps` of the identity (COFT)."""
    eps: float
    """Radius of the constraint, above 0."""
    shared: bool
    """Whether all blocks of a module are the same."""
    neumann_terms: int
    """Terms of the series that stands for the Cayley transform, from 2 on; 0 solves it exactly."""

    def __post_init__(self) -> None:
        require(self.block_size >= 2, "adapter.block_size", "at least 2", self.block_size)
        require(self.eps > 0, "adapter.eps", "above 0", self.eps)
        exact_or_some = self.neumann_terms == 0 or self.neumann_terms >= 2
        require(exact_or_some, "adapter.neumann_terms", "at least 2, or 0", self.neumann_terms)

    def check(self, layers: Shapes) -> None:
        super().check(layers)
        divisible(self.block_size, "adapter.block_size", self.block_size, layers)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "oft_block_size": self.block_size,
            "coft": self.constrained,
            "eps": self.eps,
            "block_share": self.shared,
            "use_cayley_neumann": self.neumann_terms > 0,
            "num_cayley_neumann_terms": self.neumann_terms,
        }


@dataclass
class BOFT(ThroughPeft):
    """Butterfly orthogonal finetuning: s W R1 ... Rm, inputs permuted between the factors (Liu et al. 2023)."""

    peft_type: ClassVar[str] = "BOFT"

    block_size: int
    """Size of each block, even and at least 2."""
    factors: int
    """Number m of butterfly factors; block_size * 2^(m-1) must divide the inputs of every selected module."""

    def __post_init__(self) -> None:
        fitting = self.block_size >= 2 and self.block_size % 2 == 0
        require(fitting, "adapter.block_size", "even and at least 2", self.block_size)
        require(self.factors >= 1, "adapter.factors", "at least 1", self.factors)

    def check(self, layers: Shapes) -> None:
        super().check(layers)
        divisible(self.block_size * 2 ** (self.factors - 1), "adapter.block_size", self.block_size, layers)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {"boft_block_size": self.block_size, "boft_n_butterfly_factor": self.factors}


def divisible(size: int, key: str, value: int, layers: Shapes) -> None:
    """Raise Refused, naming `key` and its value, unless `size` divides the inputs of all layers."""
    for name, (_, inputs) in layers.items():
        if inputs % size:
            raise Refused(
                f"{key}: {size} must divide the inputs of every selected module, {official(name)} has {inputs}; "
                f"got {value}"
            )
