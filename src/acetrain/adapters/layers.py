"""What PEFT's layers have in common: their weights drawn anew, and their strength scaled, by type."""

from functools import singledispatch
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.boft import layer as boft
from peft.tuners.ia3.layer import IA3Layer
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lokr.layer import LoKrLayer
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.oft.layer import OFTLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vera.layer import VeraLayer
from torch import Tensor, nn


class BlockDiagonal:
    """BOFT's block diagonal in torch's own operations.

    PEFT compiles a kernel for it, and where it cannot, quietly trains a single butterfly factor instead of several.
    """

    @staticmethod
    def forward(blocks: Tensor) -> list[Tensor]:
        """[factor, block, size, size] -> [factor, block*size, block*size], in a list as the kernel gives it."""
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    @staticmethod
    def backward(gradient: Tensor, blocks: Tensor) -> list[Tensor]:
        """The gradient of each block: its place on the diagonal."""
        factors, count, size, _ = blocks.shape
        squares = gradient.view(factors, count, size, count, size)
        return [squares.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).contiguous()]


boft._FBD_CUDA = BlockDiagonal  # pyright: ignore[reportAttributeAccessIssue]


def holds(layer: nn.Module, called: str) -> bool:
    """Whether the module is a PEFT layer with an adapter of that name."""
    if not isinstance(layer, BaseTunerLayer):
        return False
    return any(called in getattr(layer, kind) for kind in layer.adapter_layer_names)


def to_fp32(layer: nn.Module, called: str) -> None:
    """Make the adapter's weights fp32, whatever the base's dtype is."""
    for name, parameter in layer.named_parameters():
        if called in name.split("."):
            parameter.data = parameter.data.float()


@singledispatch
def redraw(layer: nn.Module, called: str, config: PeftConfig) -> None:
    """Give the adapter its first weights, drawn in their own dtype from torch's generator."""
    raise TypeError(f"{type(layer).__name__} is no adapter layer that is known")


@redraw.register
def _(layer: LoraLayer, called: str, config: PeftConfig) -> None:
    layer.reset_lora_parameters(called, True)
    if called in layer.lora_magnitude_vector:
        measure_magnitude(layer, called)


@redraw.register
def _(layer: AdaLoraLayer, called: str, config: PeftConfig) -> None:
    layer.reset_lora_parameters(called)


@redraw.register(LoHaLayer)
@redraw.register(LoKrLayer)
def _(layer: LycorisLayer, called: str, config: PeftConfig) -> None:
    layer.reset_adapter_parameters(called)


@redraw.register
def _(layer: OFTLayer, called: str, config: PeftConfig) -> None:
    layer.reset_oft_parameters(called, True)


@redraw.register
def _(layer: boft.BOFTLayer, called: str, config: PeftConfig) -> None:
    layer.reset_boft_parameters(called, True)


@redraw.register
def _(layer: IA3Layer, called: str, config: PeftConfig) -> None:
    layer.reset_ia3_parameters(called)


@redraw.register
def _(layer: VeraLayer, called: str, config: PeftConfig) -> None:
    layer.reset_vera_parameters(called, getattr(config, "d_initial"))  # noqa: B009  (a VeraConfig's)


def measure_magnitude(layer: LoraLayer, called: str) -> None:
    """Set DoRA's magnitudes to the lengths of the rows of W + s B A."""
    magnitude: Any = layer.lora_magnitude_vector[called]
    magnitude.update_layer(
        base_layer=layer.get_base_layer(),
        lora_A=layer.lora_A[called].weight,
        lora_B=layer.lora_B[called].weight,
        scaling=layer.scaling[called],
    )


@singledispatch
def strengthen(layer: nn.Module, called: str, scale: float) -> None:
    """Multiply what the adapter adds to the layer's weight by `scale`."""
    if scale != 1:
        raise TypeError(f"{type(layer).__name__} has no strength")


@strengthen.register(LoraLayer)
@strengthen.register(LycorisLayer)
def _(layer: LoraLayer | LycorisLayer, called: str, scale: float) -> None:
    if isinstance(layer, LoraLayer) and called in layer.lora_magnitude_vector:
        _strengthen_dora(layer, called, scale)
    else:
        layer.scaling[called] *= scale


@strengthen.register
def _(layer: VeraLayer, called: str, scale: float) -> None:
    layer.vera_lambda_b[called].data *= scale


@strengthen.register
def _(layer: IA3Layer, called: str, scale: float) -> None:
    layer.ia3_l[called].data = 1 + scale * (layer.ia3_l[called].data - 1)


def _strengthen_dora(layer: LoraLayer, called: str, scale: float) -> None:
    """DoRA's weight is W' = g (W + s B A), g = m/|W + s B A| by rows; W + c (W' - W) is of the same form.

    Its rows are (1 - c + c g) W + c g s B A: the first factor is the new g, and B takes c g over it.
    """
    if scale == 1:
        return
    magnitude: Any = layer.lora_magnitude_vector[called]
    b: Any = layer.lora_B[called]
    trained = magnitude.weight.data.clone()
    measure_magnitude(layer, called)
    gain = trained / magnitude.weight.data
    mixed = 1 - scale + scale * gain
    b.weight.data = (scale * gain / mixed)[:, None] * b.weight.data
    measure_magnitude(layer, called)
    magnitude.weight.data = mixed * magnitude.weight.data
