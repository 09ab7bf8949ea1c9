"""How the adapter's weights are updated from their gradients."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import require

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


@dataclass
class OptimizerOption:
    """An optimizer and its settings."""

    lr: float
    """Peak learning rate, above 0; the schedule scales it."""

    def build(self, parameters: "Iterable[nn.Parameter]") -> "Optimizer":
        """The optimizer over `parameters`, at its peak learning rate."""
        raise NotImplementedError


@dataclass
class AdamW(OptimizerOption):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), torch's own."""

    beta1: float
    """Decay of the gradient's mean, in [0, 1)."""
    beta2: float
    """Decay of the squared gradient's mean, in [0, 1); 1 - beta2 well below 1 / max_steps never warms up."""
    eps: float
    """Added to the denominator, above 0."""
    weight_decay: float
    """Share of lr by which weights shrink each step, at least 0."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "optimizer.lr", "above 0 and finite", self.lr)
        require(0 <= self.beta1 < 1, "optimizer.beta1", "in [0, 1)", self.beta1)
        require(0 <= self.beta2 < 1, "optimizer.beta2", "in [0, 1)", self.beta2)
        require(self.eps > 0, "optimizer.eps", "above 0", self.eps)
        require(self.weight_decay >= 0, "optimizer.weight_decay", "at least 0", self.weight_decay)

    def build(self, parameters: "Iterable[nn.Parameter]") -> "Optimizer":
        import torch

        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps, weight_decay=self.weight_decay
        )
