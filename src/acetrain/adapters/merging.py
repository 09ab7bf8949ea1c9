"""Adapters folded into the base's weights."""

import torch
from torch import nn

from acetrain.adapters.injection import adapter_layers
from acetrain.adapters.lycoris_layers import CHILD, lycoris_layers


def merge(dit: nn.Module) -> None:
    """Add what the attached adapter adds to the weights, which then do without it."""
    for layer in adapter_layers(dit).values():
        layer.merge()
    with torch.no_grad():
        for name, module in lycoris_layers(dit).items():
            layer = dit.get_submodule(name)
            added = module.update()
            layer.weight += added.to(layer.weight.dtype)  # pyright: ignore[reportOperatorIssue, reportCallIssue]
            module.restore()
            delattr(layer, CHILD)
