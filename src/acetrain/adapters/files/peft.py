"""The official PEFT folder: `adapter_config.json` and one safetensors under official module names."""

import json
from collections.abc import Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.acestep.names import diffusers, official
from acetrain.atomic import replacing, write_text
from acetrain.errors import Refused
from acetrain.tensorfile import read_header

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterFiles:
    """Where an adapter's weights and configuration lie."""

    weights: Path
    config: Path


def locate(path: Path) -> AdapterFiles:
    """The files of the adapter at `path`, its folder or its safetensors.

    Raises Refused where one is missing or foreign.
    """
    weights = path / WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        raise Refused(f"adapter_path: {weights} does not exist")
    if weights.suffix != ".safetensors":
        raise Refused(f"adapter_path: must be a PEFT folder or a .safetensors file, got {path}")
    config = weights.parent / CONFIG
    if not config.is_file():
        raise Refused(f"adapter_path: {config} does not exist; without it the adapter's alpha is not known")
    kind = read_config(config).get("peft_type")
    if kind != "LORA":
        raise Refused(f"adapter_path: {config} has peft_type {kind!r}; LORA is read")
    return AdapterFiles(weights, config)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises Refused if it is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"adapter_path: {path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise Refused(f"adapter_path: {path} must hold a JSON object")
    return content


def save(dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
    """Write the DiT's adapter as a PEFT folder under official names; `metadata` goes into the safetensors header."""
    from safetensors.torch import save_file

    from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, peft_config

    folder.mkdir(parents=True, exist_ok=True)
    weights = {PREFIX + official(name.replace(f".{NAME}", "")): value for name, value in adapter_state(dit).items()}
    config = copy(peft_config(dit))
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.target_modules = sorted(official(name) for name in adapter_layers(dit))
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **metadata})
    content = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    write_text(folder / CONFIG, json.dumps(content, indent=2, sort_keys=True))


def written_step(folder: Path) -> int | None:
    """The step that the whole adapter in `folder` was saved after; None where there is none."""
    try:
        metadata = read_header(folder / WEIGHTS).metadata
    except (OSError, ValueError):
        return None
    return int(metadata["step"]) if "step" in metadata and (folder / CONFIG).is_file() else None


def load(dit: "nn.Module", adapters: Sequence[tuple[Path, float]]) -> None:
    """Attach adapters to the DiT, each from its path at that scale times its trained strength; their updates add up.

    Raises Refused if a tensor belongs to no module of the DiT, a module lacks a half, or a shape does not fit.
    """
    from acetrain.adapters.injection import NAME, adapter_layers

    names = [NAME, *(f"{NAME}_{position}" for position in range(1, len(adapters)))]
    known = {name for name, _ in dit.named_modules()}
    for called, (path, _) in zip(names, adapters, strict=True):
        _attach(dit, path, known, called)
    for called, (_, scale) in zip(names, adapters, strict=True):
        for layer in adapter_layers(dit, called).values():
            layer.set_adapter([name for name in names if name in layer.lora_A])
            layer.set_scale(called, scale)
            layer.requires_grad_(False)


def _attach(dit: "nn.Module", path: Path, known: Set[str], called: str) -> None:
    """Attach one adapter under a name of its own; `known` are the DiT's modules without adapters."""
    from peft import LoraConfig

    from acetrain.adapters.injection import copy_into, inject

    files = locate(path)
    weights = _read_weights(files.weights)
    names = sorted({name.rsplit(".lora_", 1)[0] for name in weights})
    strangers = [name for name in names if name not in known]
    if strangers:
        raise Refused(
            f"adapter_path: {files.weights}: {len(strangers)} modules are not in the DiT, "
            f"the first {official(strangers[0])}"
        )
    config = LoraConfig(**_diffusers_config(read_config(files.config)))
    config.target_modules = names
    config.inference_mode = False
    inject(dit, config, names, 0, called)
    parameters = {name: value for name, value in dit.named_parameters() if called in name.split(".")}
    try:
        copy_into(parameters, weights_of(weights, parameters, called))
    except ValueError as error:
        raise Refused(f"adapter_path: {files.weights} does not fit this model: {error}") from error


def weights_of(weights: "Mapping[str, Tensor]", parameters: Mapping[str, object], called: str) -> "dict[str, Tensor]":
    """The file's tensors under the names of the attached parameters; a name without a parameter keeps its own."""
    spelt = {name.replace(f".{called}", ""): name for name in parameters}
    return {spelt.get(name, name): tensor for name, tensor in weights.items()}


def _read_weights(path: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise Refused(f"adapter_path: {path} cannot be read as safetensors ({error})") from error
    foreign = [name for name in tensors if not name.startswith(PREFIX) or ".lora_" not in name]
    if foreign or not tensors:
        raise Refused(
            f"adapter_path: {path}: {foreign[0] if foreign else 'nothing'!r} is no LoRA tensor of a PEFT file"
        )
    return {diffusers(name.removeprefix(PREFIX)): tensor.float() for name, tensor in tensors.items()}


def _diffusers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that fix the strength, with the patterns' module names in diffusers spelling."""
    kept = {key: config[key] for key in ("r", "lora_alpha", "use_rslora") if key in config}
    patterns = {
        key: {diffusers(name): value for name, value in (config.get(key) or {}).items()}
        for key in ("rank_pattern", "alpha_pattern")
    }
    return kept | patterns
