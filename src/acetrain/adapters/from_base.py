"""What an adapter adds to each weight, told beside the base: the weight with it less the weight without."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from acetrain.acestep.load import load_base
from acetrain.acestep.model import Model
from acetrain.adapters.files import lycoris, peft, saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.injection import adapter_layers
from acetrain.adapters.low_rank import LowRank, dense_update
from acetrain.adapters.lycoris_layers import lycoris_layers
from acetrain.adapters.updates import Updates, read_finite
from acetrain.errors import Refused


def read_from_base(files: AdapterFiles, model: Model) -> Updates:
    """The adapter's updates of the base's weights, computed in fp64 from weights in fp32 (LyCORIS' own in fp32).

    Raises Refused where a tensor is not finite or does not fit the base.
    """
    read_finite(files)
    dit = load_base(model, torch.float32).dit
    before = {name: parameter.data for name, parameter in dit.named_parameters()}
    saved.load(dit, [(files.weights, 1.0)])
    if files.kind == "full":
        return _trained(files, dit, before)
    layers: Mapping[str, Any] = adapter_layers(dit) | lycoris_layers(dit)

    folded = {
        name: dit.get_parameter(f"{name}.weight").data.double() - before[f"{name}.weight"].double()
        for name in lycoris.CONVOLUTIONS
        if name not in layers and lycoris.holds(files, name)
    }

    def compute(name: str) -> LowRank:
        if name in folded:
            return dense_update(folded[name])
        return dense_update(_lycoris(layers[name]) if name in lycoris_layers(dit) else _merged(layers[name]))

    ranks = {name: layer.r["default"] for name, layer in layers.items()} if peft.is_dora(files) else {}
    return Updates(files, (*layers, *folded), compute, ranks)


def _trained(files: AdapterFiles, dit: nn.Module, before: Mapping[str, Tensor]) -> Updates:
    """Of full weights: those of linear layers and convolutions, and how much else there is."""
    after = {name: parameter.data for name, parameter in dit.named_parameters()}
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    layers = {name for name, module in dit.named_modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)}
    held = [name.removesuffix(".weight") for name in moved if name.removesuffix(".weight") in layers]

    def change(name: str) -> Tensor:
        return after[name].double() - before[name].double()

    beside = {name: change(name) for name in moved if name.removesuffix(".weight") not in layers}
    if not held:
        raise Refused(f"adapter_path: {files.weights} changes no weight of a linear layer of this base")
    return Updates(files, tuple(held), lambda name: dense_update(change(f"{name}.weight")), {}, beside=beside)


@torch.no_grad()
def _merged(layer: Any) -> Tensor:
    """What a PEFT layer's merged weight has more than its base's, in fp64."""
    own = deepcopy(layer).double()
    weight = own.get_base_layer().weight.data.clone()
    own.merge()
    return own.get_base_layer().weight.data - weight


@torch.no_grad()
def _lycoris(module: Any) -> Tensor:
    return module.update().detach().double()
