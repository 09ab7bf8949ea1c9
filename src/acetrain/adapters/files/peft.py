"""The official PEFT folder: `adapter_config.json` and one safetensors under official module names."""

import json
import re
from collections.abc import Mapping, Sequence, Set
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files.found import AdapterFiles
from acetrain.atomic import replacing, write_text
from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
_PATTERNS = ("rank_pattern", "alpha_pattern")
SHARED = {"vera_A": "base_model.vera_A", "vera_B": "base_model.vera_B"}
"""VeRA's projections, which belong to no module -> their names in the file."""
_MAGNITUDE = ".lora_magnitude_vector"
"""DoRA's magnitudes, which the file spells without the `.weight` of the parameter."""
SETTINGS: Mapping[str, Sequence[str]] = {
    "LORA": ("r", "lora_alpha", "use_rslora", "use_dora", *_PATTERNS),
    "ADALORA": ("init_r", "lora_alpha"),
    "LOHA": ("r", "alpha", *_PATTERNS),
    "LOKR": ("r", "alpha", "decompose_factor", "decompose_both", *_PATTERNS),
    "OFT": (
        *("r", "oft_block_size", "coft", "eps", "block_share"),
        *("use_cayley_neumann", "num_cayley_neumann_terms"),
    ),
    "BOFT": ("boft_block_size", "boft_block_num", "boft_n_butterfly_factor"),
    "VERA": ("r",),
    "IA3": ("feedforward_modules",),
}
"""PEFT type -> the settings that fix what its weights do."""

_UNFIT = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError)
"""What PEFT raises for settings that make no adapter, or not that of the tensors."""


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises Refused if it is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"adapter_path: {path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise Refused(f"adapter_path: {path} must hold a JSON object")
    return content


def resolved(config: Mapping[str, Any], key: str, value: str, *names: str) -> Any:
    """A module's rank or alpha, by the names it goes by, in a configuration whose patterns are regular expressions."""
    for pattern, found in (config.get(key) or {}).items():
        if any(re.fullmatch(rf"(.*\.)?({pattern})", name) for name in names):
            return found
    return config.get(value)


def save(dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
    """Write the DiT's adapter as a PEFT folder under official names; `metadata` goes into the safetensors header."""
    from safetensors.torch import save_file

    from acetrain.adapters.allocation import pruned
    from acetrain.adapters.initialisation import joined
    from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, peft_config
    from acetrain.adapters.projections import projections

    folder.mkdir(parents=True, exist_ok=True)
    state, config = pruned(*joined(adapter_state(dit), copy(peft_config(dit))))
    weights = {_filed(name): value for name, value in state.items()}
    weights |= {SHARED[name]: value.cpu() for name, value in projections(dit, NAME).items()}
    config.base_model_name_or_path = base
    config.inference_mode = True
    content = config.to_dict() | {"target_modules": list(adapter_layers(dit))}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt", **metadata})
    write_text(folder / CONFIG, json.dumps(_official(content), indent=2, sort_keys=True))


def _is_filed(name: str, called: str) -> bool:
    """Whether a parameter is the adapter's and stands in its file; AdaLoRA's count of ranks does not."""
    parts = name.split(".")
    return called in parts and "ranknum" not in parts


def _filed(name: str) -> str:
    """The name in the file of an adapter's parameter."""
    from acetrain.adapters.injection import NAME

    bare = name.replace(f".{NAME}", "")
    return PREFIX + official(bare.removesuffix(".weight") if _MAGNITUDE in bare else bare)


def _official(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with every module in its official name."""
    spelt = dict(content)
    for key in ("target_modules", "feedforward_modules"):
        if spelt.get(key) is not None:
            spelt[key] = sorted(official(name) for name in spelt[key])
    for key in _PATTERNS:
        if spelt.get(key):
            spelt[key] = {official(name): value for name, value in spelt[key].items()}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in spelt.items()}


def is_dora(files: AdapterFiles) -> bool:
    """Whether the files hold a LoRA with magnitudes."""
    return files.kind == "LORA" and bool(config_of(files).get("use_dora"))


def config_of(files: AdapterFiles) -> dict[str, Any]:
    """The PEFT configuration beside the weights, or the one that they tell."""
    if files.settings is not None:
        return dict(files.settings)
    assert files.config is not None
    return read_config(files.config)


def load(dit: "nn.Module", adapters: Sequence[tuple[AdapterFiles, float]]) -> None:
    """Attach PEFT adapters of one type to the DiT, each at its scale times its trained strength."""
    from acetrain.adapters.injection import NAME, adapter_layers
    from acetrain.adapters.layers import holds, strengthen

    names = [NAME, *(f"{NAME}_{position}" for position in range(1, len(adapters)))]
    known = {name for name, _ in dit.named_modules()}
    for called, (files, _) in zip(names, adapters, strict=True):
        try:
            _attach(dit, files, known, called)
        except _UNFIT as error:
            raise Refused(f"adapter_path: {files.weights} cannot be attached as it is configured: {error}") from error
    for called, (_, scale) in zip(names, adapters, strict=True):
        for layer in adapter_layers(dit, called).values():
            layer.set_adapter([name for name in names if holds(layer, name)])
            strengthen(layer, called, scale)
            layer.requires_grad_(False)


def _attach(dit: "nn.Module", files: AdapterFiles, known: Set[str], called: str) -> None:
    """Attach one adapter under a name of its own; `known` are the DiT's modules without adapters."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils.peft_types import PeftType

    from acetrain.adapters.injection import inject

    kind = PeftType(files.kind)
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[kind]
    weights, _ = _read_weights(files)
    names = sorted({name.rsplit(f".{prefix}", 1)[0] for name in weights})
    strangers = [name for name in names if name not in known]
    if strangers:
        raise Refused(
            f"adapter_path: {files.weights}: {len(strangers)} modules are not in the DiT, "
            f"the first {official(strangers[0])}"
        )
    settings: dict[str, Any] = {"target_modules": names, **_diffusers_config(files, names)}
    settings |= {"total_step": 1} if files.kind == "ADALORA" else {}
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](**settings)
    inject(dit, config, names, 0, called)
    fill(dit, files, called)


def fill(dit: "nn.Module", files: AdapterFiles, called: str) -> None:
    """Give the attached adapter the weights in `files`. Raises Refused where they are not its names and shapes."""
    from acetrain.adapters.injection import copy_into
    from acetrain.adapters.projections import replace_projections

    weights, shared = _read_weights(files)
    parameters = {name: value for name, value in dit.named_parameters() if _is_filed(name, called)}
    try:
        replace_projections(dit, shared, called)
        copy_into(parameters, weights_of(weights, parameters, called))
    except ValueError as error:
        raise Refused(f"adapter_path: {files.weights} does not fit this model: {error}") from error


def weights_of(weights: "Mapping[str, Tensor]", parameters: Mapping[str, object], called: str) -> "dict[str, Tensor]":
    """The file's tensors under the names of the attached parameters; a name without a parameter keeps its own."""
    spelt = {name.replace(f".{called}", ""): name for name in parameters}
    return {spelt.get(name, name): tensor for name, tensor in weights.items()}


def _read_weights(files: AdapterFiles) -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
    """The file's tensors in fp32: those of modules, under diffusers names, and those that all modules share."""
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
    from peft.utils.peft_types import PeftType

    from acetrain.adapters.allocation import expanded

    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(files.kind)]
    path, tensors = files.weights, files.read()
    shared = {name: tensors.pop(filed).float() for name, filed in SHARED.items() if filed in tensors}
    foreign = [name for name in tensors if not name.startswith(PREFIX) or f".{prefix}" not in name]
    if foreign or not tensors:
        raise Refused(
            f"adapter_path: {path}: {foreign[0] if foreign else 'nothing'!r} is no {files.kind} tensor of a PEFT file"
        )
    weights = {_attached(name): tensor.float() for name, tensor in tensors.items()}
    if files.kind == "ADALORA":
        pattern = config_of(files).get("rank_pattern") or {}
        weights = expanded(weights, {_attached(PREFIX + name): alive for name, alive in pattern.items()})
    return weights, shared


def _attached(filed: str) -> str:
    """The name of a parameter, without its adapter's, from the one in the file."""
    name = diffusers(filed.removeprefix(PREFIX))
    return f"{name}.weight" if name.endswith(_MAGNITUDE) else name


def _diffusers_config(files: AdapterFiles, names: Sequence[str]) -> dict[str, Any]:
    """The settings that fix what the weights do, with modules named as here, patterns resolved."""
    from peft.utils.other import get_pattern_key

    config = config_of(files)
    kept = {key: config[key] for key in SETTINGS[files.kind] if config.get(key) is not None}
    for key in set(_PATTERNS) & kept.keys():
        found = {name: get_pattern_key(list(kept[key]), official(name)) for name in names}
        kept[key] = {name: kept[key][pattern] for name, pattern in found.items() if pattern in kept[key]}
    if "feedforward_modules" in kept:
        kept["feedforward_modules"] = [name for name in names if official(name) in kept["feedforward_modules"]]
    return kept
