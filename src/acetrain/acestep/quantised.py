"""The linear layers of the DiT's blocks in 8 or 4 bits, by bitsandbytes' kernels: frozen weights, stored small.

A layer makes its weight dense for a product and drops it again; its inputs are not quantised. So training, validation
and every device compute the same, and a song's loss does not depend on what it is batched with: the mixed products of
LLM.int8() give neither. To an adapter the layer is a linear one whose `weight` is dense; what is written into that
weight is lost, so nothing can be merged here. The stored tensors are buffers, which follow their module to its device
with all that belongs to them, as bitsandbytes' own parameters do not.
"""

from typing import Any

import bitsandbytes
import torch
from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant, quantize_4bit
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from acetrain.errors import Refused

BLOCK = 64
"""Weights that share a scale in 4 bits."""


class QuantisedLinear(nn.Linear):
    """A frozen linear layer without bias that stores its weight quantised."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Float[Tensor, "output input"], compute: torch.dtype) -> None:
        """Store `weight`; products are in the format `compute`."""
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.bias, self.compute = None, compute
        codes, scales = self.encoded(weight)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The dense weight [output, input] that the layer multiplies with, made anew."""
        return self.decoded().to(self.compute)

    def encoded(self, weight: Float[Tensor, "output input"]) -> tuple[Tensor, Tensor]:
        """The codes that stand for a weight, and their scales."""
        raise NotImplementedError

    def decoded(self) -> Tensor:
        """The weight [output, input] that codes and scales stand for; said here, as torch compiles no check of it."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return _Product.apply(input.to(self.compute), self)  # pyright: ignore[reportReturnType]


class Int8(QuantisedLinear):
    """8 bits a weight, and a scale per row."""

    def encoded(self, weight: Float[Tensor, "output input"]) -> tuple[Tensor, Tensor]:
        codes, scales, _ = int8_vectorwise_quant(weight.half())
        return codes, scales

    def decoded(self) -> Tensor:
        return int8_vectorwise_dequant(self.codes, self.scales)


class Nf4(QuantisedLinear):
    """4-bit normal floats, and an fp32 scale for `BLOCK` of them: 4.5 bits a weight."""

    def encoded(self, weight: Float[Tensor, "output input"]) -> tuple[Tensor, Tensor]:
        codes, state = quantize_4bit(weight.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type="nf4")
        return codes, state.absmax

    def decoded(self) -> Tensor:
        shape = (self.out_features, self.in_features)
        return torch.ops.bitsandbytes.dequantize_4bit(self.codes, self.scales, BLOCK, "nf4", shape, self.compute)


class _Product(torch.autograd.Function):
    """x W' with a W that is not kept for the backward pass, but made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight, None


KINDS: dict[str, type[QuantisedLinear]] = {"int8": Int8, "nf4": Nf4}
"""Name of a storage -> its layer."""


def quantise(dit: nn.Module, kind: str, compute: torch.dtype, by: torch.device | str = "cpu") -> None:
    """Replace every linear layer of the DiT's blocks by one that stores its weight as `kind`, where that weight was.

    One weight at a time is on the device `by`: a GPU takes seconds for what a CPU takes minutes for.
    The embeddings of time and condition stay dense: they are 4 % of the weights, and every frame goes through them.
    """
    for name, layer in list(dit.named_modules()):
        if name.startswith("layers.") and isinstance(layer, nn.Linear):
            stored = KINDS[kind](layer.weight.to(by), compute)
            dit.set_submodule(name, stored.to(layer.weight.device))


def dequantise(dit: nn.Module) -> None:
    """Replace every quantised layer by a dense one with the weight that it multiplies with."""
    for name, layer in list(dit.named_modules()):
        if isinstance(layer, QuantisedLinear):
            dense = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            dense.weight = nn.Parameter(layer.weight, requires_grad=False)
            dit.set_submodule(name, dense)


def check_device(kind: str, device: torch.device) -> None:
    """Raise Refused where bitsandbytes cannot store and multiply such weights on the device."""
    key = f"precision.quantised: {kind}"
    if device.type not in ("cuda", "cpu"):
        raise Refused(f"{key} needs a CUDA GPU or a CPU, the device is {device.type}; none leaves the base dense")
    try:
        x = torch.ones(1, BLOCK, device=device, requires_grad=True)
        KINDS[kind](torch.eye(BLOCK, device=device), torch.float32)(x).sum().backward()
    except (RuntimeError, AttributeError, NotImplementedError, OSError) as error:
        reason = str(error).split(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        version = bitsandbytes.__version__
        raise Refused(f"{key} does not work here with bitsandbytes {version} on {device.type} ({reason})") from error
