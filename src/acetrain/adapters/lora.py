"""Updates of low rank: LoRA and its relatives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Shapes
from acetrain.adapters.ranked import Ranked
from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import Refused, require

if TYPE_CHECKING:
    from torch import nn


class Init(Enum):
    """What a LoRA begins with."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    olora = "olora"
    pissa = "pissa"


FROM_BASE = (Init.olora, Init.pissa)
"""Those that begin at a part of the base's weights."""


@dataclass
class LoRA(Ranked, ThroughPeft):
    """Low-rank adaptation: W + alpha/rank * B A (Hu et al. 2021)."""

    peft_type: ClassVar[str] = "LORA"

    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""
    init: Init = field(kw_only=True)
    """First weights: default (A uniform, B zero), gaussian (A normal with std 1/rank, B zero), orthogonal (neither
    zero, B A = 0), olora (QR of W; Büyükakyüz 2024), pissa (largest singular vectors of W; Meng et al. 2024). What
    began with olora or pissa is saved with twice its rank, for the untouched base."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.dropout < 1, "adapter.dropout", "in [0, 1)", self.dropout)
        fresh = self.init is Init.default or not self.start_from
        require(fresh, "adapter.init", "default where adapter.start_from is given", self.init.name)

    def check(self, layers: Shapes) -> None:
        ranks = self.patterns(list(layers))["rank_pattern"]
        for name, shape in layers.items():
            rank = ranks.get(name, self.rank)
            if self.init is Init.orthogonal and rank % 2:
                raise Refused(f"adapter.init: orthogonal must have an even rank, {official(name)} has {rank}")
            if self.init in FROM_BASE and rank > min(shape):
                raise Refused(
                    f"adapter.init: {self.init.name} must have a rank of at most the module's smaller side, "
                    f"{official(name)} has {rank} and is {list(shape)}"
                )
        super().check(layers)

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        super().attach(dit, names, seed)
        if self.init is not Init.default:
            from acetrain.adapters.initialisation import initialise

            initialise(dit, names, self.init.name, seed)

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

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.init not in FROM_BASE, "adapter.init", "default, gaussian or orthogonal for DoRA", self.init.name)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return super().settings(names) | {"use_dora": True}
