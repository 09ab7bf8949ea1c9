"""What an attached adapter trains, module by module and in a few lines."""

import csv
import io
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.vera.layer import VeraLayer
from torch import nn

from acetrain.acestep.names import official
from acetrain.acestep.quantised import QuantisedLinear
from acetrain.adapters.injection import NAME, START, adapter_layers, trainable
from acetrain.adapters.lycoris_layers import CHILD, Attached, lycoris_layers
from acetrain.adapters.targets import block_of
from acetrain.atomic import write_text

FILE = "modules.csv"


@dataclass(frozen=True)
class Trained:
    """A module with an adapter, or that trains itself."""

    module: str
    """Official name."""
    outputs: int
    inputs: int
    rank: int | None
    """None for a type without ranks."""
    strength: float | None
    """Factor of the update, alpha/rank or alpha/sqrt(rank); None for a type without one."""
    parameters: int
    """Numbers that train."""

    @property
    def kind(self) -> str:
        """The name without the block it lies in."""
        return self.module if block_of(self.module) is None else self.module.split(".", 2)[2]


def trained_modules(dit: nn.Module) -> list[Trained]:
    """The modules that train, in the model's order."""
    attached = adapter_layers(dit) | lycoris_layers(dit)
    if attached:
        return [_adapted(name, dit.get_submodule(name), adapter) for name, adapter in attached.items()]
    own: dict[str, list[nn.Parameter]] = {}
    for name, parameter in trainable(dit).items():
        own.setdefault(name.removesuffix(".weight").removesuffix(".bias"), []).append(parameter)
    return [_own(official(name), parameters) for name, parameters in own.items()]


def _adapted(name: str, layer: Any, adapter: Any) -> Trained:
    training = sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)
    rank: Any = None
    strength: Any = None
    if isinstance(adapter, Attached):
        rank, strength = adapter.lora_dim, adapter.scale
    elif isinstance(adapter, LoraLayer | LycorisLayer | VeraLayer):
        rank = adapter.r[NAME]
    if isinstance(adapter, LoraLayer | LycorisLayer):
        strength = adapter.scaling[NAME] / (rank if rank and isinstance(adapter, AdaLoraLayer) else 1)
    return Trained(official(name), layer.out_features, layer.in_features, rank, strength, training)


def _own(name: str, parameters: list[nn.Parameter]) -> Trained:
    weight, numbers = parameters[0], sum(parameter.numel() for parameter in parameters)
    return Trained(name, weight.shape[0], weight.numel() // weight.shape[0], None, None, numbers)


def announce(dit: nn.Module, layers: int, folder: Path) -> None:
    """Print which of the DiT's `layers` linear layers train, by kind, and write each to `modules.csv` in `folder`."""
    modules = trained_modules(dit)
    summary = summarised(modules, dit)
    share = f"{summary['parameters']:,} parameters, {summary['share']:.3%} of the DiT's"
    print("\n  ".join([f"modules: {len(modules)} of {layers} linear layers, {share}", *summary["kinds"]]), flush=True)
    write_text(folder / FILE, table(modules))


def table(modules: list[Trained]) -> str:
    """The modules as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Trained)])
    writer.writeheader()
    writer.writerows(asdict(module) for module in modules)
    return text.getvalue()


def summarised(modules: list[Trained], dit: nn.Module) -> dict[str, Any]:
    """Counts and shapes for a tracker: all that trains, its share of the DiT's own parameters, and each kind."""
    training = sum(module.parameters for module in modules)
    attached = {NAME, START, CHILD}
    own = [value for name, value in dit.named_parameters() if attached.isdisjoint(name.split("."))]
    quantised = [layer for layer in dit.modules() if isinstance(layer, QuantisedLinear)]
    whole = sum(value.numel() for value in own) + sum(one.in_features * one.out_features for one in quantised)
    kinds = Counter((module.kind, _shape(module)) for module in modules)
    lines = [f"{count} x {kind} {shape}" for (kind, shape), count in kinds.items()]
    return {"modules": len(modules), "parameters": training, "share": training / whole, "kinds": lines}


def _shape(module: Trained) -> str:
    parts = [f"[{module.outputs}, {module.inputs}]"]
    parts += [] if module.rank is None else [f"rank {module.rank}"]
    parts += [] if module.strength is None else [f"strength {module.strength:.4g}"]
    return ", ".join([*parts, f"{module.parameters:,} parameters"])
