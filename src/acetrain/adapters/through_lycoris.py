"""Adapters that LyCORIS computes and whose files its readers know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Shapes
from acetrain.adapters.files import lycoris
from acetrain.adapters.files.fit import located, refuse_changes, refuse_modules
from acetrain.adapters.ranked import Ranked
from acetrain.errors import Refused, require
from acetrain.tensorfile import read_header

if TYPE_CHECKING:
    from torch import nn


@dataclass
class ThroughLycoris(Ranked):
    """An adapter of an algorithm that LyCORIS has."""

    algorithm: ClassVar[str]
    """LyCORIS' name of it."""

    module_dropout: float
    """Share of forward passes in which a module goes without its update in training, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.module_dropout < 1, "adapter.module_dropout", "in [0, 1)", self.module_dropout)

    @property
    def decomposed(self) -> bool:
        """Whether lengths of the weight's rows are trained apart from their directions."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """LyCORIS' arguments of the algorithm beside rank, alpha and dropout."""
        return {"weight_decompose": self.decomposed}

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """All settings on the modules `names`, as the header of a file says them."""
        ranks = {official(name): rank for name, rank in self.patterns(names)["rank_pattern"].items()}
        alphas = {official(name): alpha for name, alpha in self.patterns(names)["alpha_pattern"].items()}
        modules = sorted(map(official, names))
        own = {"linear_dim": self.rank, "linear_alpha": self.alpha, "ranks": ranks, "alphas": alphas}
        return {**own, **self.arguments(), "target_modules": modules}

    def check_start(self, path: Path, layers: Shapes) -> None:
        files = located(path)
        header = read_header(files.weights)
        theirs = lycoris.settings_of(header, self.algorithm)
        if not lycoris.is_own(header) or header.metadata.get("algo", self.algorithm) != self.algorithm:
            kind = header.metadata.get("algo", files.kind)
            raise Refused(f"adapter.start_from: {path} is a {kind} adapter, this run trains LyCORIS' {self.algorithm}")
        refuse_modules(path, list(layers), set(lycoris.modules_of(header, list(layers)).values()))
        ours = json.loads(json.dumps(self.settings(list(layers))))
        shared = [key for key in lycoris.SETTINGS if key in ours and key in theirs]
        refuse_changes(path, [(key, ours[key], theirs[key]) for key in shared if ours[key] != theirs[key]])

    def inject(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        from acetrain.adapters.lycoris_layers import attach

        found = self.patterns(names)
        sizes = {
            name: (found["rank_pattern"].get(name, self.rank), found["alpha_pattern"].get(name, self.alpha))
            for name in names
        }
        attach(dit, self.algorithm, sizes, self.arguments() | {"module_dropout": self.module_dropout}, seed)

    def fill(self, dit: "nn.Module", path: Path) -> None:
        lycoris.fill(dit, located(path))

    def save(self, dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
        from acetrain.adapters.lycoris_layers import lycoris_layers

        settings = self.settings(list(lycoris_layers(dit)))
        lycoris.save(dit, folder, self.algorithm, settings, {**metadata, "base": base})


@dataclass
class LoHaLycoris(ThroughLycoris):
    """Low-rank Hadamard product by LyCORIS: W + alpha/rank * (B1 A1) ∘ (B2 A2) (Hyeon-Woo et al. 2021)."""

    algorithm: ClassVar[str] = "loha"

    rank: int
    """Rank of each of the two factors, at least 1."""
    dora: bool
    """Whether lengths of the weight's rows are trained apart from their directions, as in DoRA (Liu et al. 2024)."""

    @property
    def decomposed(self) -> bool:
        return self.dora


@dataclass
class LoKrLycoris(LoHaLycoris):
    """Kronecker product by LyCORIS: W + alpha/rank * C ⊗ (B A) (Yeh et al. 2023).

    B A is one full matrix where `rank` is not below half its longer side, and where C is full as well the strength is 1
    whatever alpha says. The file is that of the official trainer.
    """

    algorithm: ClassVar[str] = "lokr"

    rank: int
    """Rank of the larger factor, at least 1."""
    factor: int
    """Largest size of the smaller factor C, by which sizes are divided; -1 splits each as evenly as it goes."""
    decompose_both: bool
    """Whether C too is a product of rank `rank` where that is smaller."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.factor == -1 or self.factor >= 2, "adapter.factor", "at least 2, or -1", self.factor)

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"factor": self.factor, "decompose_both": self.decompose_both}


@dataclass
class LoConDora(ThroughLycoris):
    """LoRA for the directions of W's rows, lengths apart, by LyCORIS: m (W + alpha/rank B A) / |W + ...| (Liu et al.
    2024). Unlike PEFT's DoRA, the gradient goes through the lengths too."""

    algorithm: ClassVar[str] = "locon"

    @property
    def decomposed(self) -> bool:
        return True
