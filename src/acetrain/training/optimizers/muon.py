"""Muon: momentum of a matrix, made orthogonal."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from acetrain.errors import require
from acetrain.training.optimizer import Adam, Group

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass
class Muon(Adam):
    """Orthogonalised momentum for matrices, AdamW for the rest (Jordan 2024); torch's own, at AdamW's lr (Liu 2025)."""

    state_bytes: ClassVar[float] = 4

    momentum: float
    """Decay of the momentum of matrices, in [0, 1)."""
    ns_steps: int
    """Newton-Schulz iterations that make the momentum orthogonal, from 1 to 99."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, "optimizer.momentum", "in [0, 1)", self.momentum)
        require(1 <= self.ns_steps <= 99, "optimizer.ns_steps", "from 1 to 99", self.ns_steps)

    def over(self, groups: list[Group]) -> "Optimizer":
        import torch

        from acetrain.training.optimizers.joint import Joint

        matrices, rest = (_only(groups, matrix) for matrix in (True, False))
        settings = {"momentum": self.momentum, "ns_steps": self.ns_steps, "adjust_lr_fn": "match_rms_adamw"}
        parts = [torch.optim.Muon(matrices, **settings)] if matrices else []
        parts += [torch.optim.AdamW(rest, betas=(self.beta1, self.beta2), eps=self.eps)] if rest else []
        return Joint(parts)


def _only(groups: list[Group], matrix: bool) -> list[Group]:
    """The groups with their matrices only, or without them; none that is empty."""
    kept = [{**group, "params": [w for w in group["params"] if (w.ndim == 2) is matrix]} for group in groups]
    return [group for group in kept if group["params"]]
