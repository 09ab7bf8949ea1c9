"""LyCORIS' own file: one safetensors, modules by official names, alpha as a tensor, settings in its header."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.files import spelling
from acetrain.adapters.files.found import AdapterFiles
from acetrain.atomic import replacing
from acetrain.errors import Refused
from acetrain.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = {algorithm: f"{algorithm}_weights.safetensors" for algorithm in ("lokr", "loha", "locon")}
"""Algorithm -> name of its file; the official trainer writes and the official app reads that of LoKr."""
PREFIX = "lycoris_"
_STARTS = {"lokr": "lokr_", "loha": "hada_"}
SETTINGS = ("linear_dim", "linear_alpha", "factor", "decompose_both", "weight_decompose", "ranks", "alphas")
"""Entries of the header's settings that fix what the weights do."""


def is_own(header: Header) -> bool:
    """Whether a file is one of these."""
    return any(name.startswith(PREFIX) for name in header.tensors)


def kind_of(header: Header) -> str:
    """The type of the adapter: updates that have a magnitude beside them cannot be added to others."""
    return "decomposed LyCORIS" if any(name.endswith(".dora_scale") for name in header.tensors) else "LyCORIS"


def key_of(module: str) -> str:
    """What a module of the DiT, by its diffusers name, is called in the file."""
    return PREFIX + official(module).replace(".", "_")


def module_of(key: str) -> str:
    """The module of the DiT, in diffusers spelling, that a name in the file stands for: the inverse of `key_of`.

    Raises Refused where no module of any DiT is called so.
    """
    if found := spelling.module_of(key):
        return found
    raise Refused(f"adapter_path: {key!r} is the name of no module of the DiT")


def modules_of(header: Header, layers: Sequence[str]) -> dict[str, str]:
    """Names in the file -> modules among `layers`; an unknown name stands for itself."""
    known = {key_of(name): name for name in layers}
    return {key: known.get(key, key) for key in dict.fromkeys(name.split(".")[0] for name in header.tensors)}


def settings_of(header: Header, algorithm: str) -> dict[str, Any]:
    """The settings that the header says; none where it says none."""
    try:
        settings = json.loads(header.metadata.get(f"{algorithm}_config", "{}"))
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def header_for(products: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The header of a file of these parts, by module: the algorithm, and its settings as far as the parts tell."""
    parts = {part for found in products.values() for part in found}
    found = [name for name, start in _STARTS.items() if any(part.startswith(start) for part in parts)]
    algorithm = found[0] if found else "locon"
    alphas = {official(name): float(own["alpha"]) for name, own in products.items() if "alpha" in own}
    settings = {"alphas": alphas, "target_modules": sorted(map(official, products))}
    settings["weight_decompose"] = "dora_scale" in parts
    return {"format": "lycoris", "algo": algorithm, f"{algorithm}_config": json.dumps(settings, sort_keys=True)}


def save(
    dit: "nn.Module", folder: Path, algorithm: str, settings: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Write the DiT's LyCORIS modules; `settings` go into the header as JSON, `metadata` beside them."""
    from safetensors.torch import save_file

    from acetrain.adapters.lycoris_layers import lycoris_layers

    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{key_of(name)}.{part}": value.detach().cpu().clone().contiguous()
        for name, module in lycoris_layers(dit).items()
        for part, value in module.custom_state_dict().items()
    }
    header = {"format": "lycoris", "algo": algorithm, f"{algorithm}_config": json.dumps(settings, sort_keys=True)}
    with replacing(folder / WEIGHTS[algorithm]) as temporary:
        save_file(weights, temporary, metadata={**metadata, **header})


def load(dit: "nn.Module", adapters: Sequence[tuple[AdapterFiles, float]]) -> None:
    """Attach LyCORIS files to the DiT by LyCORIS' own reading, each at its scale times its trained strength."""
    from acetrain.adapters.lycoris_layers import CHILD, read, strengthen, wrap

    layers = list(linear_layers(getattr(dit, "config")))  # noqa: B009  (diffusers' models have one)
    for position, (files, scale) in enumerate(adapters):
        called = f"{CHILD}_{position}" if position else CHILD
        for name, parts in parts_of(files, layers).items():
            linear = dit.get_submodule(name)
            try:
                module = read(linear, key_of(name), parts)
            except (RuntimeError, AttributeError, TypeError, KeyError) as error:
                raise _misfit(files, name, error) from error
            strengthen(module, scale)
            wrap(linear, module.requires_grad_(False), called)


def fill(dit: "nn.Module", files: AdapterFiles) -> None:
    """Give the attached LyCORIS modules the file's weights. Raises Refused where names, shapes or alphas differ."""
    import torch

    from acetrain.adapters.lycoris_layers import lycoris_layers

    modules = lycoris_layers(dit)
    parts = parts_of(files, list(modules))
    for name, module in modules.items():
        ours, theirs = module.custom_state_dict(), parts.get(name, {})
        if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
            raise _misfit(files, name, "its tensors are others")
        if not torch.equal(ours["alpha"].float().cpu(), theirs["alpha"]):
            raise _misfit(files, name, f"its alpha is {theirs['alpha'].item():g}, here {ours['alpha'].item():g}")
        with torch.no_grad():
            for key, parameter in module.named_parameters():
                parameter.copy_(theirs[key])


def parts_of(files: AdapterFiles, layers: Sequence[str]) -> "dict[str, dict[str, Tensor]]":
    """The file's tensors in fp32: module among `layers` -> part -> tensor. Raises Refused for one of another module."""
    tensors = files.read()
    known = {key_of(name): name for name in layers}
    strangers = sorted({name.split(".")[0] for name in tensors} - known.keys())
    if strangers:
        raise Refused(
            f"adapter_path: {files.weights}: {len(strangers)} modules are not in the DiT, the first {strangers[0]}"
        )
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, part = name.partition(".")
        found.setdefault(known[key], {})[part] = tensor.float()
    return found


def _misfit(files: AdapterFiles, name: str, why: object) -> Refused:
    return Refused(f"adapter_path: {files.weights} does not fit this model at {official(name)}: {why}")
