"""Ranks and strengths of adapters that have them, the same everywhere or by pattern."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Adapter, Shapes
from acetrain.adapters.targets import matching
from acetrain.errors import Refused, require


@dataclass
class Ranked(Adapter):
    """An adapter whose update has a rank, and a strength that follows from it."""

    power: ClassVar[float] = 1
    """The strength is alpha/rank^power."""

    rank: int
    """Rank of the update, at least 1."""
    alpha: float
    """Numerator of the strength alpha/rank."""
    ranks: dict[str, int] = field(kw_only=True)
    """Pattern of module names, as in targets -> rank of those modules instead of `rank`; their strength stays the
    same."""
    alphas: dict[str, float] = field(kw_only=True)
    """Pattern of module names -> alpha of those modules, instead of the one that keeps the strength."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, "adapter.rank", "at least 1", self.rank)
        require(0 < self.alpha < math.inf, "adapter.alpha", "above 0 and finite", self.alpha)
        for pattern, rank in self.ranks.items():
            require(rank >= 1, f"adapter.ranks.{pattern}", "at least 1", rank)
        for pattern, alpha in self.alphas.items():
            require(0 < alpha < math.inf, f"adapter.alphas.{pattern}", "above 0 and finite", alpha)

    def check(self, layers: Shapes) -> None:
        self.patterns(list(layers))
        super().check(layers)

    def patterns(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """PEFT's `rank_pattern` and `alpha_pattern` on the modules `names`, each module by its name.

        Raises Refused for a pattern without a match, naming the nearest, and for two that disagree on a module.
        """
        ranks = self._assigned("ranks", names)
        following = {name: self.alpha * (rank / self.rank) ** self.power for name, rank in ranks.items()}
        return {"rank_pattern": ranks, "alpha_pattern": following | self._assigned("alphas", names)}

    def _assigned(self, key: str, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pattern, value in getattr(self, key).items():
            for name in matching(f"adapter.{key}", pattern, names, "selected module"):
                if found.setdefault(name, value) != value:
                    raise Refused(
                        f"adapter.{key}: {pattern!r} gives {official(name)} {value}, another pattern {found[name]}"
                    )
        return found
