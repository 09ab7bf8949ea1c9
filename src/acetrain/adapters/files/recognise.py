"""What adapter a safetensors file holds, told by what is in it and not by its name. No torch."""

import json
import math
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from acetrain.acestep.names import official
from acetrain.adapters.files import delta, lycoris, peft
from acetrain.adapters.files.configuration import lora_configuration
from acetrain.adapters.files.contents import Contents, sort_tensors
from acetrain.adapters.files.found import AdapterFiles
from acetrain.errors import Refused
from acetrain.tensorfile import Header, read_number

METADATA = "lora_adapter_metadata"
"""Entry of the header in which diffusers keeps PEFT's configuration, as JSON."""
OF_DIT = "transformer."
"""What stands before each of its keys that are the DiT's."""
_PAIR = frozenset({"lora_A.weight", "lora_B.weight"})
_FACTORS = {
    "lora": [_PAIR],
    "hada": [frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})],
    "lokr": [
        frozenset(first + second)
        for first in (["lokr_w1"], ["lokr_w1_a", "lokr_w1_b"])
        for second in (["lokr_w2"], ["lokr_w2_a", "lokr_w2_b"])
    ],
}
"""How the names of an algorithm's factors start -> the sets that make a whole."""
_SIZES = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
"""PEFT's types with ranks and alphas -> the key of alpha."""
_STARTS = {"LOHA": ("hada_",)}
"""PEFT's types -> how their tensors' names start, where it is not with the type."""
_OFF_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""First weights that PEFT takes off the base's."""
_BESIDE = frozenset({"lora_magnitude_vector", "lora_mid.weight", "hada_t1", "hada_t2", "lokr_t1", "lokr_t2"})
"""Parts that may stand beside factors."""


def recognise(weights: Path, header: Header, config: Path | None, alpha: float | None = None) -> AdapterFiles:
    """The adapter in a file whose header has been read; `config` is the PEFT configuration beside it, `alpha` what
    its modules have where neither says one.

    Raises Refused where names belong to no module, a module lacks a part, or a strength cannot be known.
    """
    file = sort_tensors(weights, header)
    if file.kinds <= delta.PARTS.keys():
        _refuse_alpha(file, alpha)
        names = file.names(lambda module, part: f"{peft.PREFIX}{official(module)}.{part}")
        return AdapterFiles(weights, delta.KIND, layout="ComfyUI", names=names)
    products = any(part.startswith(("hada", "lokr")) for part in file.kinds) or "dora_scale" in file.kinds
    own = weights.name == peft.WEIGHTS or not all("alpha" in parts for parts in file.parts.values())
    content = _spelt(peft.read_config(config)) if config and own and file.layout != "LyCORIS" else _of_header(file)
    if content is not None:
        _refuse_alpha(file, alpha)
        return _of_peft(file, content, config if config and own else None)
    if products:
        return _of_lycoris(file, alpha)
    if file.kinds <= _PAIR | {"alpha", "lora_magnitude_vector"}:
        return _of_pairs(file, alpha)
    part = sorted(file.kinds - _PAIR - {"alpha"})[0]
    raise file.refuse(f"tensors such as {part} need the {peft.CONFIG} that they were written with, which is not there")


def _of_header(file: Contents) -> dict[str, Any] | None:
    """The configuration in a header that diffusers wrote; None where there is none."""
    if METADATA not in file.metadata:
        return None
    try:
        content = json.loads(file.metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise file.refuse(f"{METADATA} in its header is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise file.refuse(f"{METADATA} in its header must be a JSON object")
    own = {key.removeprefix(OF_DIT): value for key, value in content.items() if key.startswith(OF_DIT)}
    return _spelt({"peft_type": "LORA", **(own or content)})


def _spelt(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose patterns have official names."""
    spelt = dict(content)
    for key in ("rank_pattern", "alpha_pattern"):
        if isinstance(spelt.get(key), dict):
            spelt[key] = {official(name): value for name, value in spelt[key].items()}
    return spelt


def _of_peft(file: Contents, content: Mapping[str, Any], config: Path | None) -> AdapterFiles:
    kind = content.get("peft_type")
    if not isinstance(kind, str) or kind not in peft.SETTINGS:
        where = config or f"the header of {file.weights}"
        raise Refused(f"adapter_path: {where} has peft_type {kind!r}; {', '.join(peft.SETTINGS)} are read")
    _check_kind(file, kind)
    _check_whole(file, {"LORA": "lora", "LOHA": "hada", "LOKR": "lokr"}.get(kind, ""))
    if kind in _SIZES:
        _check_sizes(file, content, _SIZES[kind])
        content = _by_module(file, content)
    if kind == "ADALORA":
        _check_number(file, "init_r", content.get("init_r"))
    if kind == "LORA":
        for module in file.parts:
            _rank(file, module, int(peft.resolved(content, "rank_pattern", "r", official(module))))
        _check_magnitudes(file, bool(content.get("use_dora")))
        _check_start(file, content)
    for module, alpha in _alphas(file).items():
        _check_alpha(file, module, alpha, kind, content)
    names = file.names(lambda module, part: f"{peft.PREFIX}{official(module)}.{part}", ["alpha"])
    return AdapterFiles(file.weights, kind, config, _layout(file), names, dict(content))


def _check_kind(file: Contents, kind: str) -> None:
    """Refuse tensors of another type than the configuration's."""
    starts = ("lora_",) if kind in ("LORA", "ADALORA") else _STARTS.get(kind, (f"{kind.lower()}_",))
    others = sorted(part for part in file.kinds if part != "alpha" and not part.startswith(starts))
    if others:
        raise file.refuse(f"its configuration says {kind}, which has no tensors such as {others[0]}")


def _check_magnitudes(file: Contents, dora: bool) -> None:
    """Refuse modules that lack the magnitudes of a DoRA, or have some and are none's."""
    faulty = [module for module, parts in file.parts.items() if ("lora_magnitude_vector" in parts) != dora]
    if faulty:
        words = "must have lora_magnitude_vector, as it is a DoRA" if dora else "has magnitudes, use_dora is false"
        raise file.refuse(f"{official(faulty[0])} {words}; so it is with {len(faulty)} of {len(file.parts)} modules")


def _check_start(file: Contents, content: Mapping[str, Any]) -> None:
    """Refuse a LoRA for a base that PEFT took its first weights off."""
    start = content.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_OFF_BASE):
        raise file.refuse(
            f"it began as {start}, for a base from which PEFT had taken its first weights; save_pretrained with "
            "path_initial_model_for_weight_conversion writes it for the base itself"
        )


def _by_module(file: Contents, content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with patterns that are names of modules, whichever spelling they were written for."""
    told = dict(content)
    for key in ("rank_pattern", "alpha_pattern"):
        found = {module: peft.resolved(content, key, "", official(module), module) for module in file.parts}
        told[key] = {official(module): value for module, value in found.items() if value is not None}
    return told


def _layout(file: Contents) -> str:
    """The layout of pairs: ComfyUI's are PEFT's with an alpha for every module."""
    told = all("alpha" in parts for parts in file.parts.values())
    return "ComfyUI" if told and file.layout == "PEFT" else file.layout


def _check_sizes(file: Contents, content: Mapping[str, Any], alpha: str) -> None:
    """Refuse a configuration whose ranks and alphas are no numbers to compute with."""
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = content.get(key) or {}
        if not isinstance(patterns, dict) or not all(_compiles(pattern) for pattern in patterns):
            raise file.refuse(f"its configuration's {key} must be an object of patterns, is {patterns!r}")
    ranks = [content.get("r"), *(content.get("rank_pattern") or {}).values()]
    alphas = [content.get(alpha), *(content.get("alpha_pattern") or {}).values()]
    for key, value in (("r", content.get("r")), (alpha, content.get(alpha))):
        if value is None:
            raise file.refuse(f"its configuration must say {key}, without which its strength is not known")
    for rank in ranks:
        _check_number(file, "r", rank)
    for one in alphas:
        if type(one) not in (int, float) or not abs(one) <= sys.float_info.max:
            raise file.refuse(f"its configuration's {alpha} must be a finite number, is {one!r}")


def _check_number(file: Contents, key: str, rank: object) -> None:
    if type(rank) is not int or not 1 <= rank <= sys.maxsize:
        raise file.refuse(f"its configuration's {key} must be a whole number of at least 1, is {rank!r}")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _rank(file: Contents, module: str, said: int | None = None) -> int:
    """The rank that the shapes of A and B tell. Raises Refused where they make no product, or another rank is said."""
    a, b = (file.parts[module][part].stored.shape for part in sorted(_PAIR))
    if len(a) < 2 or len(b) < 2 or not a[0]:
        raise file.refuse(f"{official(module)} has shapes that make no product: A {list(a)}, B {list(b)}")
    if a[0] != b[1] or said not in (None, a[0]):
        words = "" if said is None else f", its configuration says {said}"
        raise file.refuse(f"{official(module)} has rank {a[0]} in A and {b[1]} in B{words}")
    return a[0]


def _check_alpha(file: Contents, module: str, alpha: float, kind: str, content: Mapping[str, Any]) -> None:
    """Refuse a module whose alpha in the weights is another than in the configuration."""
    name, key = official(module), "lora_alpha" if kind == "LORA" else "alpha"
    rank, said = peft.resolved(content, "rank_pattern", "r", name), peft.resolved(content, "alpha_pattern", key, name)
    if not rank or said is None:
        return
    expected = said * math.sqrt(rank) if content.get("use_rslora") else said
    if not math.isclose(alpha, expected, rel_tol=1e-2):
        raise file.refuse(f"the alpha of {name} is {alpha:g} in the weights and {expected:g} by its configuration")


def _of_pairs(file: Contents, alpha: float | None) -> AdapterFiles:
    _check_whole(file, "lora")
    alphas = _known_alphas(file, alpha, list(file.parts))
    ranks = {module: _rank(file, module) for module in file.parts}
    dora = "lora_magnitude_vector" in file.kinds
    _check_magnitudes(file, dora)
    base = file.metadata.get("base", "")
    names = file.names(lambda module, part: f"{peft.PREFIX}{official(module)}.{part}", ["alpha"])
    settings = lora_configuration(ranks, alphas, False, base, dora)
    return AdapterFiles(file.weights, "LORA", None, _layout(file), names, settings)


def _of_lycoris(file: Contents, alpha: float | None) -> AdapterFiles:
    for start in _FACTORS:
        _check_whole(file, start, some=True)
    whole = {module for module, parts in file.parts.items() if {"lokr_w1", "lokr_w2"} <= set(parts)}
    alphas = _known_alphas(file, alpha, [module for module in file.parts if module not in whole])
    alphas |= dict.fromkeys(whole, 1.0)
    added = {f"{lycoris.key_of(name)}.alpha": alphas[name] for name in file.parts if "alpha" not in file.parts[name]}
    spelt = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    names = file.names(lambda module, part: f"{lycoris.key_of(module)}.{spelt.get(part, part)}")
    kind = "decomposed LyCORIS" if "dora_scale" in file.kinds else "LyCORIS"
    return AdapterFiles(file.weights, kind, layout=file.layout, names=names, alphas=added)


def _check_whole(file: Contents, start: str, some: bool = False) -> None:
    """Refuse modules that lack a factor of the algorithm whose parts start so; with `some`, of those that have any."""
    if not start:
        return
    faulty = []
    for module, parts in file.parts.items():
        own = {part for part in parts if part.startswith(start) and part not in _BESIDE}
        if (own or not some) and own not in _FACTORS[start]:
            faulty.append((module, own))
    if faulty:
        module, own = faulty[0]
        needed = max(_FACTORS[start], key=lambda one: (len(one & own), -len(one)))
        more = f"; so it is with {len(faulty)} modules" if len(faulty) > 1 else ""
        raise file.refuse(
            f"{official(module)} must have {' and '.join(sorted(needed))}, has {', '.join(sorted(own)) or 'none'}{more}"
        )


def _alphas(file: Contents) -> dict[str, float]:
    """Module -> alpha, of those that have one in the weights."""
    found = {}
    for module, parts in file.parts.items():
        if "alpha" not in parts:
            continue
        try:
            found[module] = read_number(file.weights, parts["alpha"].stored)
        except (OSError, ValueError) as error:
            raise file.refuse(f"{parts['alpha'].key} {error}") from error
        if not math.isfinite(found[module]):
            raise file.refuse(f"{parts['alpha'].key} is {found[module]}")
    return found


def _refuse_alpha(file: Contents, given: float | None) -> None:
    """Refuse an alpha that is given to an adapter of known strength."""
    if given is not None:
        raise Refused(f"adapter_alpha: must be null where the adapter says its alpha, as {file.weights} does")


def _known_alphas(file: Contents, given: float | None, modules: Collection[str]) -> dict[str, float]:
    """The alpha of every module. Raises Refused where it is said nowhere, or twice."""
    said = _alphas(file)
    lacking = [module for module in modules if module not in said]
    if lacking and given is None:
        raise file.refuse(
            f"its alpha is not known: neither {peft.CONFIG} nor its header nor an .alpha for {len(lacking)} of "
            f"{len(file.parts)} modules says it\nask who trained it, then write it down: "
            f"acetrain export adapter_path={file.weights} adapter_alpha=ALPHA format=peft output=DIR"
        )
    if not lacking:
        _refuse_alpha(file, given)
    return said | {module: given for module in lacking if given is not None}
