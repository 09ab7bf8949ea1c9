"""Gradients of frozen weights, taken as they pass by: no weight requires a gradient and none gets a buffer.

The gradient of W in Y = X W' is dY' X. A hook on each layer's output passes it through an identity that keeps X the way
autograd keeps what it needs, so that gradient checkpointing drops it and computes it again, and that sees dY in the
backward pass.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from acetrain.analysis.accumulate import Accumulator
from acetrain.errors import Failed


class Probe:
    """Adds the gradients of layers to their accumulators, visit by visit; in effect within its context."""

    def __init__(self, layers: Mapping[str, nn.Linear]) -> None:
        self.layers = layers
        self.scales = {name: _scale(layer) for name, layer in layers.items()}
        self.accumulators: Mapping[str, Accumulator] = {}
        self.features: dict[str, Tensor] = {}
        self.seen: set[str] = set()
        self.weight = 0.0
        self.handles: list[Any] = []

    def __enter__(self) -> "Probe":
        for name, layer in self.layers.items():
            self.handles.append(layer.register_forward_hook(_hook(self, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def visit(self, loss: Tensor, weight: float) -> None:
        """Add `weight` times the gradients of `loss`, computed within the context since the last visit.

        Raises Failed where a layer has no part in the loss.
        """
        self.weight = weight
        loss.backward()
        if missed := self.layers.keys() - self.seen:
            raise Failed(f"{min(missed)} has no part in the loss: no gradient reaches it")
        self.seen.clear()
        self.features.clear()

    def broken(self) -> str | None:
        """The first layer whose sums are not finite, as their scalars tell."""
        scalars = torch.stack([one.sums["scalars"] for one in self.accumulators.values()])
        finite = scalars.isfinite().all(dim=1).tolist()
        return next((name for name, sound in zip(self.accumulators, finite, strict=True) if not sound), None)

    def forward(self, name: str, x: Tensor, y: Tensor) -> None:
        """Note the normalised feature norm of a layer's pass, once where blocks are computed again."""
        if name not in self.features:
            self.features[name] = feature_norm(self.layers[name], self.scales[name], x, y)

    def backward(self, name: str, x: Tensor, dy: Tensor) -> None:
        """Add what a layer's weight gets. Raises Failed where the layer took part twice."""
        if name in self.seen:
            raise Failed(f"{name} is used more than once in a pass, which is not provided for")
        self.seen.add(name)
        rows = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
        self.accumulators[name].add(*rows, self.features[name], self.weight)


@torch.no_grad()
def feature_norm(layer: nn.Linear, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean over rows of |W x| relative to what a random matrix of W's Frobenius norm gives, |W| |x| / sqrt(n).

    The normalised feature norm of Hayou, Ghosh, Yu 2025 (PLoP, arXiv:2506.20629), which trains where it is small.
    `scale` is |W| / sqrt(n).
    """
    without_bias = y if layer.bias is None else y - layer.bias
    norms = [torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float32) for rows in (without_bias, x)]
    return (norms[0] / (scale * norms[1]).clamp_min(torch.finfo(torch.float32).tiny)).mean()


def _scale(layer: nn.Linear) -> Tensor:
    return torch.linalg.vector_norm(layer.weight.detach(), dtype=torch.float32) / layer.in_features**0.5


def _hook(probe: Probe, name: str):
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        probe.forward(name, inputs[0], output)
        anchor = torch.empty(0, device=output.device, requires_grad=True)
        return _Seen.apply(output, inputs[0].detach().to(output.dtype), anchor, probe, name)  # pyright: ignore

    return hook


class _Seen(torch.autograd.Function):
    """The identity of a layer's output; `anchor` makes it require a gradient where nothing before it does."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, probe: Probe, name: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.probe, ctx.name = probe, name
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (x,) = ctx.saved_tensors
        ctx.probe.backward(ctx.name, x, gradients[0])
        return gradients[0], None, None, None, None
