"""Updates of low rank whose ranks are shared out among the modules while they train."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import require

if TYPE_CHECKING:
    from torch import nn

    from acetrain.adapters.regime import Regime
    from acetrain.data.batch import Batch


@dataclass
class AdaLoRA(ThroughPeft):
    """W + alpha/rank * P E Q, E diagonal, whose least important entries are set to zero as the run goes on, over all
    modules, until `target_rank` of them are left in the mean (Zhang et al. 2023; importances of Eq. 8 to 12).

    The number of entries falls by a cubic, laid over the steps that the run is first started with. A run that is given
    more goes on with the ranks it has come to; one that is given too few to come to them is refused.
    """

    peft_type: ClassVar[str] = "ADALORA"

    rank: int
    """Rank that every module begins with."""
    target_rank: int
    """Mean rank of the modules in the end, at least 1 and below `rank`."""
    alpha: float
    """Numerator of the strength alpha/rank, which stays as ranks fall."""
    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""
    warmup_share: float
    """Share of the run's steps before ranks begin to fall, in [0, 1)."""
    final_share: float
    """Share of the run's steps, its last, that train the ranks come to, in [0, 1); below 1 with `warmup_share`."""
    interval: int
    """Steps from one sharing out to the next, at least 1."""
    beta1: float
    """Decay of an importance's running mean, in (0, 1)."""
    beta2: float
    """Decay of the running mean of how far importances stray from theirs, in (0, 1)."""
    orthogonality: float
    """Weight of |P'P - I| + |QQ' - I|, in the mean over matrices, in the loss of a step; 0 for none."""

    def __post_init__(self) -> None:
        require(self.rank >= 2, "adapter.rank", "at least 2", self.rank)
        below = 1 <= self.target_rank < self.rank
        require(below, "adapter.target_rank", f"at least 1 and below adapter.rank ({self.rank})", self.target_rank)
        require(0 < self.alpha < math.inf, "adapter.alpha", "above 0 and finite", self.alpha)
        for key in ("dropout", "warmup_share", "final_share"):
            require(0 <= getattr(self, key) < 1, f"adapter.{key}", "in [0, 1)", getattr(self, key))
        left = f"below 1 with adapter.warmup_share ({self.warmup_share:g})"
        require(self.warmup_share + self.final_share < 1, "adapter.final_share", left, self.final_share)
        require(self.interval >= 1, "adapter.interval", "at least 1 step", self.interval)
        for key in ("beta1", "beta2"):
            require(0 < getattr(self, key) < 1, f"adapter.{key}", "in (0, 1)", getattr(self, key))
        finite = 0 <= self.orthogonality < math.inf
        require(finite, "adapter.orthogonality", "at least 0 and finite", self.orthogonality)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "init_r": self.rank,
            "target_r": self.target_rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "deltaT": self.interval,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "orth_reg_weight": self.orthogonality,
            "total_step": 1,
        }

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        """Attach the adapter; of one that is gone on from, entries that were set to zero begin anew."""
        from acetrain.adapters.allocation import revive
        from acetrain.adapters.injection import adapter_state

        self.inject(dit, names, seed)
        if self.start_from:
            fresh = adapter_state(dit)
            self.fill(dit, Path(self.start_from))
            revive(dit, fresh)

    def regime(self, dit: "nn.Module", total_steps: int, songs: "Sequence[Batch]") -> "Regime":
        from acetrain.adapters.allocation import Allocation

        return Allocation(dit, total_steps, self.warmup_share, self.final_share)
