"""Updates that are products of small matrices other than B A: Kronecker and Hadamard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from acetrain.adapters.ranked import Ranked
from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import require


@dataclass
class LoHa(Ranked, ThroughPeft):
    """Low-rank Hadamard product: W + alpha/rank * (B1 A1) ∘ (B2 A2), of rank up to rank² (Hyeon-Woo et al. 2021)."""

    peft_type: ClassVar[str] = "LOHA"

    rank: int
    """Rank of each of the two factors, at least 1."""
    rank_dropout: float
    """Share of the update's rows dropped in training, in [0, 1)."""
    module_dropout: float
    """Share of forward passes in which a module goes without its update in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.rank_dropout < 1, "adapter.rank_dropout", "in [0, 1)", self.rank_dropout)
        require(0 <= self.module_dropout < 1, "adapter.module_dropout", "in [0, 1)", self.module_dropout)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        dropouts = {"rank_dropout": self.rank_dropout, "module_dropout": self.module_dropout}
        return {"r": self.rank, "alpha": self.alpha, **dropouts, **self.patterns(names)}


@dataclass
class LoKr(LoHa):
    """Kronecker product: W + alpha/rank * C ⊗ (B A) (Yeh et al. 2023).

    B A is one full matrix where `rank` is not below half its longer side.
    """

    peft_type: ClassVar[str] = "LOKR"

    rank: int
    """Rank of the larger factor, at least 1."""
    factor: int
    """Largest size of the smaller factor C, by which sizes are divided; -1 splits each as evenly as it goes."""
    decompose_both: bool
    """Whether C too is a product of rank `rank` where that is smaller."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.factor == -1 or self.factor >= 2, "adapter.factor", "at least 2, or -1", self.factor)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return super().settings(names) | {"decompose_factor": self.factor, "decompose_both": self.decompose_both}
