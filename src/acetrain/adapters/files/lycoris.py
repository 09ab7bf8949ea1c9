"""LyCORIS' own file: one safetensors, modules by official names, alpha as a tensor, settings in its header."""

import json
from collections import Counter
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
CONVOLUTIONS = ("proj_in_conv",)
"""Convolutions that LyCORIS wraps beside linear layers; it knows no transposed ones."""
_FLAT = ("hada_w1_b", "lokr_w2_b")
"""Factors in which inputs and kernel of a convolution are one side."""
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


def holds(files: AdapterFiles, module: str) -> bool:
    """Whether a file has parts of a module, by its diffusers name."""
    return any(name.startswith(f"{key_of(module)}.") for name in files.names.values())


def is_flat(files: AdapterFiles) -> bool:
    """Whether a file has a convolution in factors that do not say the sizes of its kernel."""
    held = set(files.names.values())
    return any(f"{key_of(name)}.{part}" in held for name in CONVOLUTIONS for part in _FLAT)


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


def header_for(products: Mapping[str, Mapping[str, Any]], header: Header) -> dict[str, str]:
    """The header of a file of these parts, by module: the algorithm, and its settings, which are those of the file that
    they come from or else, as far as it goes, told by the parts.

    The official app may build its modules from them alone.
    """
    parts = {part for found in products.values() for part in found}
    found = [name for name, start in _STARTS.items() if any(part.startswith(start) for part in parts)]
    algorithm = found[0] if found else "locon"
    settings = settings_of(header, algorithm) or _told_settings(products, algorithm)
    return {"format": "lycoris", "algo": algorithm, f"{algorithm}_config": json.dumps(settings, sort_keys=True)}


def _told_settings(products: Mapping[str, Mapping[str, Any]], algorithm: str) -> dict[str, Any]:
    """LyCORIS' settings of these parts; rank and alpha are those that most modules have, others are said by module."""
    from acetrain.adapters.formulas import lycoris_rank

    each = {name: (lycoris_rank(own), float(own["alpha"])) for name, own in products.items() if lycoris_rank(own)}
    sizes = Counter(each.values())
    rank, alpha = sizes.most_common(1)[0][0] if sizes else (None, None)
    told: dict[str, Any] = {
        "ranks": {official(name): own for name, (own, _) in each.items() if own != rank},
        "alphas": {official(name): own for name, (_, own) in each.items() if own != alpha},
    }
    told["target_modules"] = sorted(map(official, products))
    told["weight_decompose"] = any("dora_scale" in own for own in products.values())
    told["linear_dim"], told["linear_alpha"] = rank, alpha
    if algorithm == "lokr":
        lokrs = [own for own in products.values() if any(part.startswith("lokr_") for part in own)]
        told["full_matrix"] = not sizes
        told["decompose_both"] = any("lokr_w1_a" in own for own in lokrs)
        told["factor"] = _factor(lokrs)
    return {key: value for key, value in told.items() if value is not None}


def _factor(lokrs: Sequence[Mapping[str, Any]]) -> int | None:
    """The factor by which LyCORIS would split every module into two of these sizes; None where there is none."""
    from lycoris.functional.general import factorization

    splits = set()
    for own in lokrs:
        first, second = (_factor_shape(own, f"lokr_w{which}") for which in (1, 2))
        splits |= set(zip(first, second, strict=True))
    for tried in (-1, max(small for small, _ in splits)):
        if all(factorization(small * large, tried) == (small, large) for small, large in splits):
            return tried
    return None


def _factor_shape(parts: Mapping[str, Any], name: str) -> tuple[int, int]:
    whole = parts.get(name)
    return tuple(whole.shape[:2]) if whole is not None else (parts[f"{name}_a"].shape[0], parts[f"{name}_b"].shape[1])


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
    """Attach LyCORIS files to the DiT by LyCORIS' own reading, each at its scale times its trained strength; what they
    add to convolutions goes into the weights."""
    from acetrain.adapters.lycoris_layers import CHILD, fold, read, strengthen, wrap

    linear = linear_layers(getattr(dit, "config"))  # noqa: B009  (diffusers' models have one)
    layers = [*linear, *CONVOLUTIONS]
    for position, (files, scale) in enumerate(adapters):
        called = f"{CHILD}_{position}" if position else CHILD
        for name, parts in parts_of(files, layers).items():
            layer = dit.get_submodule(name)
            try:
                module = read(layer, key_of(name), parts)
            except (RuntimeError, AttributeError, TypeError, KeyError) as error:
                raise _misfit(files, name, error) from error
            strengthen(module, scale)
            if name in linear:
                wrap(layer, module.requires_grad_(False), called)
            else:
                fold(layer, module)


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
