"""What an attached adapter trains, module by module and in a few lines."""

import csv
import io
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.vera.layer import VeraLayer
from torch import nn

from acetrain.acestep.names import official
from acetrain.adapters.injection import NAME, START, adapter_layers
from acetrain.adapters.targets import block_of
from acetrain.atomic import write_text

FILE = "modules.csv"


@dataclass(frozen=True)
class Trained:
    """A module with an adapter."""

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
    return [_trained(official(name), layer) for name, layer in adapter_layers(dit).items()]


def _trained(name: str, layer: Any) -> Trained:
    training = sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)
    shape = layer.out_features, layer.in_features
    rank = layer.r[NAME] if isinstance(layer, LoraLayer | LycorisLayer | VeraLayer) else None
    strength = layer.scaling[NAME] if isinstance(layer, LoraLayer | LycorisLayer) else None
    return Trained(name, *shape, rank, strength, training)


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
    frozen = [
        value for name, value in dit.named_parameters() if not value.requires_grad and START not in name.split(".")
    ]
    whole = sum(value.numel() for value in frozen)
    kinds = Counter((module.kind, _shape(module)) for module in modules)
    lines = [f"{count} x {kind} {shape}" for (kind, shape), count in kinds.items()]
    return {"modules": len(modules), "parameters": training, "share": training / whole, "kinds": lines}


def _shape(module: Trained) -> str:
    parts = [f"[{module.outputs}, {module.inputs}]"]
    parts += [] if module.rank is None else [f"rank {module.rank}"]
    parts += [] if module.strength is None else [f"strength {module.strength:.4g}"]
    return ", ".join([*parts, f"{module.parameters:,} parameters"])
