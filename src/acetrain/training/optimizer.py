"""How the adapter's weights are updated from their gradients."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.adapters.adapter import Adapter
from acetrain.adapters.lora import LoRA
from acetrain.adapters.targets import matches
from acetrain.errors import Failed, Refused, nearest, require
from acetrain.training.weight_names import WEIGHTS

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Group = dict[str, Any]
"""A parameter group as torch has it: `params`, `lr` and `weight_decay`."""


@dataclass
class OptimizerOption:
    """An optimizer and its settings."""

    lr: float
    """Peak learning rate, above 0; the schedule scales it."""
    weight_decay: float
    """Share of lr by which weights shrink each step, at least 0."""
    lr_factors: dict[str, float]
    """Pattern -> factor of lr for the weights it matches, as in {lora_B: 4, cross_attn: 0.5}; those of several patterns
    multiply. Patterns are those of targets, over names of weights."""
    decay_factors: dict[str, float]
    """Pattern -> factor of weight_decay for the weights it matches, as in {lora_A: 0}."""

    state_bytes: ClassVar[float] = 8
    """Bytes of state that it keeps for each number that trains, about."""
    package: ClassVar[str] = ""
    """The package outside of acetrain's own requirements that the option needs; the extra `optim` brings it."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "optimizer.lr", "above 0 and finite", self.lr)
        finite = "at least 0 and finite"
        require(0 <= self.weight_decay < math.inf, "optimizer.weight_decay", finite, self.weight_decay)
        for key in ("lr_factors", "decay_factors"):
            for pattern, value in getattr(self, key).items():
                require(0 <= value < math.inf, f"optimizer.{key}.{pattern}", finite, value)

    def check(self, modules: Sequence[str], adapter: Adapter) -> None:
        """Raise Refused where a package is missing, or a pattern can match no weight of an adapter on `modules`."""
        if self.package and find_spec(self.package) is None:
            name = type(self).__name__
            raise Refused(
                f"optimizer: {name} needs {self.package}, which is not installed: pip install acetrain[optim]"
            )
        names = [f"{module}.{weight}.default.weight" for module in modules for weight in WEIGHTS]
        self._refuse_unmatched(names, Refused)

    def build(self, parameters: "Mapping[str, nn.Parameter]") -> "Optimizer":
        """The optimizer over named parameters, at its peak learning rate.

        Raises Failed for a pattern that matches none of them.
        """
        self._refuse_unmatched(list(parameters), Failed)
        groups: dict[tuple[float, float], Group] = {}
        for name, parameter in parameters.items():
            lr = self.lr * self.lr_factor(name)
            decay = self.weight_decay * _product(self.decay_factors, name)
            group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay})
            group["params"].append(parameter)
        return self.over(list(groups.values()))

    @property
    def kind(self) -> str:
        """Which optimizer it is."""
        return type(self).__name__

    def lr_factor(self, name: str) -> float:
        """Factor of the learning rate of the weight `name`."""
        return _product(self.lr_factors, name)

    def over(self, groups: list[Group]) -> "Optimizer":
        """The optimizer over parameter groups."""
        raise NotImplementedError

    @property
    def averages(self) -> bool:
        """Whether it averages its weights itself, so that `evaluating` gives others than those that train."""
        return False

    def figures(self, optimizer: "Optimizer") -> dict[str, float]:
        """What the optimizer estimates, for the metrics; the names are the same at every step."""
        return {}

    def evaluating(self, optimizer: "Optimizer") -> AbstractContextManager[None]:
        """Within it, the weights are those to judge and to save; after it, to the bit what they were."""
        return nullcontext()

    def _refuse_unmatched(self, names: Sequence[str], error: type[Exception]) -> None:
        for key in ("lr_factors", "decay_factors"):
            for pattern in getattr(self, key):
                if not any(matches(pattern, name) for name in names):
                    words = {word for name in names for word in name.split(".") if not word.isdigit()}
                    raise error(f"optimizer.{key}: {pattern!r} matches no weight; {nearest(pattern, words)}")


def _product(factors: Mapping[str, float], name: str) -> float:
    return math.prod(factor for pattern, factor in sorted(factors.items()) if matches(pattern, name))


@dataclass
class Moments(OptimizerOption):
    """An optimizer with running means of the gradient and of its square."""

    beta1: float
    """Decay of the gradient's mean, in [0, 1)."""
    beta2: float
    """Decay of the squared gradient's mean, in [0, 1); 1 - beta2 well below 1 / max_steps never warms up."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta1 < 1, "optimizer.beta1", "in [0, 1)", self.beta1)
        require(0 <= self.beta2 < 1, "optimizer.beta2", "in [0, 1)", self.beta2)


@dataclass
class Adam(Moments):
    """An optimizer that divides the gradient's mean by the root of its square's."""

    eps: float
    """Added to the denominator, above 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.eps < math.inf, "optimizer.eps", "above 0 and finite", self.eps)


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), torch's own."""

    def over(self, groups: list[Group]) -> "Optimizer":
        import torch

        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), eps=self.eps)


@dataclass
class LoraPlus(AdamW):
    """AdamW with a larger learning rate for LoRA's B than for its A (Hayou et al. 2024, LoRA+)."""

    ratio: float
    """Learning rate of B over that of A, at least 1; times what lr_factors says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.ratio < math.inf, "optimizer.ratio", "at least 1 and finite", self.ratio)

    def check(self, modules: Sequence[str], adapter: Adapter) -> None:
        super().check(modules, adapter)
        rule = "another than LoraPlus for an adapter without A and B"
        require(isinstance(adapter, LoRA), "optimizer", rule, type(adapter).__name__)

    @property
    def kind(self) -> str:
        """Which optimizer it is."""
        return type(self).__name__

    def lr_factor(self, name: str) -> float:
        return super().lr_factor(name) * (self.ratio if ".lora_B." in name else 1.0)
