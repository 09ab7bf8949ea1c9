"""What a run trains: small modules attached to linear layers of a frozen DiT."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn


@dataclass
class Adapter:
    """An adapter type and its size."""

    def peft(self, names: Sequence[str]) -> "LoraConfig":
        """The PEFT configuration of this adapter on the modules `names`."""
        raise NotImplementedError

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        """Attach the adapter to exactly the modules `names`; only its weights, in fp32, require gradients."""
        from acetrain.adapters.injection import inject

        inject(dit, self.peft(names), names, seed)


@dataclass
class LoRA(Adapter):
    """Low-rank adaptation: W + alpha/rank * B A (Hu et al. 2021)."""

    rank: int
    """Rank of the update, at least 1."""
    alpha: float
    """Numerator of the strength alpha/rank."""
    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "adapter.rank", "at least 1", self.rank)
        require(0 < self.alpha < math.inf, "adapter.alpha", "above 0 and finite", self.alpha)
        require(0 <= self.dropout < 1, "adapter.dropout", "in [0, 1)", self.dropout)

    def peft(self, names: Sequence[str]) -> "LoraConfig":
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]  (PEFT divides; a float is as good)
            lora_dropout=self.dropout,
            target_modules=list(names),
        )
