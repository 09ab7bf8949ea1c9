"""Adapters that train vectors only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import require


@dataclass
class VeRA(ThroughPeft):
    """Vector-based random adaptation: W + diag(b) B diag(d) A, with A and B random and frozen (Kopiczko et al. 2023).

    All modules share A and B; b and d are each module's own.
    """

    peft_type: ClassVar[str] = "VERA"

    rank: int
    """Rows of A, at least 1; large, as only the vectors b and d train."""
    start: float
    """Value that d starts at, not 0; b starts at 0."""
    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "adapter.rank", "at least 1", self.rank)
        require(self.start != 0, "adapter.start", "other than 0", self.start)
        require(0 <= self.dropout < 1, "adapter.dropout", "in [0, 1)", self.dropout)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {"r": self.rank, "d_initial": self.start, "vera_dropout": self.dropout, "save_projection": True}


@dataclass
class IA3(ThroughPeft):
    """Learned factors of each selected module's outputs, and of the inputs of `down_proj` (Liu et al. 2022)."""

    peft_type: ClassVar[str] = "IA3"

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {"feedforward_modules": [name for name in names if name.endswith(".down_proj")]}
