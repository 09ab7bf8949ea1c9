"""Updates of low rank: LoRA and its relatives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Shapes
from acetrain.adapters.ranked import Ranked
from acetrain.adapters.through_peft import ThroughPeft
from acetrain.errors import Refused, require

if TYPE_CHECKING:
    from torch import nn

    from acetrain.adapters.regime import Regime
    from acetrain.data.batch import Batch
    from acetrain.data.cache import CachedSong


class Init(Enum):
    """What a LoRA begins with."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    olora = "olora"
    pissa = "pissa"
    eva = "eva"
    corda = "corda"
    lora_ga = "lora_ga"


FROM_BASE = (Init.olora, Init.pissa, Init.corda, Init.lora_ga)
"""Those that begin with an update of their own, which is taken off the base's weights."""
FROM_SONGS = (Init.eva, Init.corda, Init.lora_ga)
"""Those that look at songs."""
ONE_ROW = ("time_embed", "time_embed_r")
"""Parts of the DiT whose inputs are one row a song: no covariance can be told from it."""


@dataclass
class LoRA(Ranked, ThroughPeft):
    """Low-rank adaptation: W + alpha/rank * B A (Hu et al. 2021)."""

    peft_type: ClassVar[str] = "LORA"

    dropout: float
    """Share of the adapter's inputs dropped in training, in [0, 1)."""
    init: Init = field(kw_only=True)
    """First weights: default (A uniform, B zero), gaussian (A normal with std 1/rank, B zero), orthogonal (neither
    zero, B A = 0), olora (QR of W; Büyükakyüz 2024), pissa (largest singular vectors of W; Meng et al. 2024); from
    songs eva (A the directions in which inputs vary most, B zero; Paischer et al. 2024), corda (singular vectors of W
    times the covariance of inputs, instruction-previewed; Yang et al. 2024), lora_ga (singular vectors of the loss's
    gradient; Wang et al. 2024). What began with olora, pissa, corda or lora_ga is saved with twice its rank, for the
    untouched base."""
    init_songs: int = field(kw_only=True)
    """Songs that eva, corda and lora_ga look at, one by one, before the first step: the first by name that are long
    enough; at least 1. A run that goes on from a checkpoint has their weights there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.dropout < 1, "adapter.dropout", "in [0, 1)", self.dropout)
        fresh = self.init is Init.default or not self.start_from
        require(fresh, "adapter.init", "default where adapter.start_from is given", self.init.name)
        require(self.init_songs >= 1, "adapter.init_songs", "at least 1", self.init_songs)

    def with_ranks(self, ranks: Mapping[str, int]) -> "LoRA":
        if not ranks:
            return self
        require(not self.ranks, "adapter.ranks", "empty where targets give the ranks", self.ranks)
        return replace(self, ranks={official(name): rank for name, rank in ranks.items()})

    def check(self, layers: Shapes) -> None:
        ranks = self.patterns(list(layers))["rank_pattern"]
        for name, shape in layers.items():
            rank = self._widest if self.init is Init.eva else ranks.get(name, self.rank)
            if self.init is Init.orthogonal and rank % 2:
                raise Refused(f"adapter.init: orthogonal must have an even rank, {official(name)} has {rank}")
            most, side = self._most(shape)
            if rank > most:
                raise Refused(
                    f"adapter.init: {self.init.name} must have a rank of at most {side}, "
                    f"{official(name)} has {rank} and is {list(shape)}"
                )
            if self.init in (Init.eva, Init.corda) and name.split(".")[0] in ONE_ROW:
                raise Refused(
                    f"adapter.init: {self.init.name} must have modules that see many rows of a song, "
                    f"{official(name)} sees one; targets.exclude=[{name.split('.')[0]}] leaves it out"
                )
        super().check(layers)

    def _most(self, shape: tuple[int, int]) -> tuple[float, str]:
        """The largest rank that the start can give a module of this shape, and what bounds it."""
        if self.init in (Init.olora, Init.pissa, Init.corda):
            return min(shape), "the module's smaller side"
        if self.init is Init.lora_ga:
            return min(shape) // 2, "half the module's smaller side"
        return (shape[1] // 2, "half the module's inputs") if self.init is Init.eva else (math.inf, "")

    def check_songs(self, songs: "Sequence[CachedSong]", sharded: bool) -> None:
        if self.init not in FROM_SONGS:
            return
        require(not sharded, "adapter.init", "one that looks at no songs where trainer.shard is true", self.init.name)
        if len(self.looked_at(songs)) < self.init_songs:
            raise Refused(
                f"adapter.init_songs: {self.init.name} must have as many songs to train on with at least "
                f"{2 * self._rows} latent frames and {self._rows} condition rows, there are "
                f"{len(self.looked_at(songs))}, got {self.init_songs}"
            )

    def looked_at(self, songs: "Sequence[CachedSong]") -> "Sequence[CachedSong]":
        if self.init not in FROM_SONGS:
            return ()
        rows = self._rows
        long = [song for song in songs if song.frames >= 2 * rows and song.tokens >= rows]
        return sorted(long, key=lambda song: song.name)[: self.init_songs]

    @property
    def _rows(self) -> int:
        """Rows of its inputs, two latent frames each, that a module must see of a song: eva goes by twice as many
        directions as it keeps."""
        return 2 * self._widest if self.init is Init.eva else 1

    @property
    def _widest(self) -> int:
        return max([self.rank, *self.ranks.values()])

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        super().attach(dit, names, seed)
        if self.init is not Init.default:
            from acetrain.adapters.initialisation import initialise, take_off

            if self.init not in FROM_SONGS:
                initialise(dit, names, self.init.name, seed)
            if self.init in FROM_BASE:
                take_off(dit, names)

    def regime(self, dit: "nn.Module", total_steps: int, songs: "Sequence[Batch]") -> "Regime":
        if self.init not in FROM_SONGS:
            return super().regime(dit, total_steps, songs)
        from acetrain.adapters.first_weights import FirstWeights

        return FirstWeights(dit, self.init.name, songs, self.init in FROM_BASE)

    @property
    def reads_base(self) -> str:
        return f"adapter.init={self.init.name}" if self.init in FROM_BASE else ""

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
        rule = "default, gaussian, orthogonal or eva for DoRA"
        require(self.init not in FROM_BASE, "adapter.init", rule, self.init.name)

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        return super().settings(names) | {"use_dora": True}
