"""Adapters folded into the base's weights."""

import torch
from torch import Tensor, nn

from acetrain.adapters.injection import adapter_layers
from acetrain.adapters.lycoris_layers import CHILD, lycoris_layers


def merged_weights(dit: nn.Module) -> dict[str, Tensor]:
    """Fold what is attached into the weights; all of the DiT's parameters by the names they have without adapters."""
    merge(dit)
    found = {}
    for name, value in dit.state_dict().items():
        parts = name.split(".")
        if "base_layer" in parts:
            found[".".join(part for part in parts if part != "base_layer")] = value
    adapted = [f"{name}." for name in adapter_layers(dit)]
    plain = {name: value for name, value in dit.state_dict().items() if not name.startswith(tuple(adapted))}
    return plain | found


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
