"""Updates of low rank: LoRA and its relatives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from acetrain.adapters.ranked import Ranked
from acetrain.errors import require


@dataclass
class LoRA(Ranked):
    """Low-rank adaptation: W + alpha/rank * B A (Hu et al. 2021)."""

    peft_type: ClassVar[str] = "LORA"

    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.dropout < 1, "adapter.dropout", "in [0, 1)", self.dropout)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout, **self.patterns(names)}


@dataclass
class RsLoRA(LoRA):
    """Rank-stabilised LoRA: W + alpha/sqrt(rank) * B A, so that high ranks learn too (Kalajdzievski 2023)."""

    power: ClassVar[float] = 0.5

    alpha: float
    """Numerator of the strength alpha/sqrt(rank)."""

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return super().settings(names) | {"use_rslora": True}


@dataclass
class DoRA(LoRA):
    """LoRA for the directions of W's rows, lengths apart: m (W + alpha/rank B A) / |W + ...| (Liu et al. 2024)."""

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return super().settings(names) | {"use_dora": True}
