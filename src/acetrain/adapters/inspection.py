"""What a saved adapter is, from its file alone: modules, ranks, strengths and norms, in whoever's layout."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.adapters import formulas
from acetrain.adapters.files import delta, lycoris, peft, saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.spelling import told
from acetrain.adapters.low_rank import LowRank
from acetrain.adapters.targets import block_of
from acetrain.adapters.updates import peft_size, read_finite
from acetrain.errors import Refused

_SIZED = ("LORA", "ADALORA", "LOHA", "LOKR")
"""PEFT's types that have a rank and a strength."""


@dataclass(frozen=True)
class Inspected:
    """A module of an adapter."""

    module: str
    """Official name."""
    rank: int | None
    """None for a type without ranks, and for a LoKr of two whole factors."""
    strength: float | None
    """Factor of the update; None for a type without one."""
    norm: float | None
    """Frobenius norm of what is added to the weight; None where only the base's weights tell it."""
    parameters: int

    @property
    def kind(self) -> str:
        """The name without the block it lies in."""
        return self.module if block_of(self.module) is None else self.module.split(".", 2)[2]


@dataclass(frozen=True)
class Inspection:
    """An adapter as its file tells it."""

    path: str
    weights: str
    kind: str
    """PEFT's name of the type, DoRA, LyCORIS, decomposed LyCORIS, delta, or full."""
    layout: str
    """Whose way of writing it is."""
    base: str
    """The model it says it is for; empty where it does not."""
    dtypes: list[str]
    """Formats of its tensors."""
    bytes: int
    metadata: dict[str, str]
    """What its header says."""
    modules: list[Inspected]

    def document(self) -> dict[str, Any]:
        """All of it in plain containers."""
        totals = {"parameters": sum(one.parameters for one in self.modules), "advice": self.advice()}
        return {**asdict(self), **totals}

    def advice(self) -> str:
        """What readers who never see the configuration would make of it; empty where it is the same."""
        strengths = {one.strength for one in self.modules if one.strength is not None}
        if self.layout != "PEFT" or self.kind != "LORA" or strengths <= {1.0}:
            return ""
        low, high = min(strengths), max(strengths)
        trained = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        return (
            f"ComfyUI and diffusers do not read {peft.CONFIG}: they would run this at strength 1, not {trained}; "
            f"acetrain export format=comfyui or format=diffusers writes it for them"
        )


def inspect(path: Path) -> Inspection:
    """Read the adapter at `path` without a model. Raises Refused where it is not whole or not finite."""
    files = saved.locate(path)
    header, tensors = saved.header_of(files), read_finite(files)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, part = _sorted(files, name)
        parts.setdefault(module, {})[part] = tensor
    return Inspection(
        path=str(path),
        weights=str(files.weights),
        kind="DoRA" if peft.is_dora(files) else files.kind,
        layout=files.layout,
        base=saved.said_base(files),
        dtypes=sorted({stored.dtype for stored in header.tensors.values()}),
        bytes=files.weights.stat().st_size,
        metadata=header.metadata,
        modules=[_inspected(files, name, found) for name, found in parts.items()],
    )


def _sorted(files: AdapterFiles, name: str) -> tuple[str, str]:
    """Official name of the module, and the part, of a tensor; whole weights are parts of themselves."""
    if files.kind.endswith("LyCORIS"):
        key, _, part = name.partition(".")
        return official(lycoris.module_of(key)), part
    if (found := told(name)) is not None:
        return official(found.module), found.part
    module, _, part = name.removeprefix("decoder.").removeprefix("base_model.").rpartition(".")
    return (module, part) if module else (part, "shared")


def _inspected(files: AdapterFiles, name: str, parts: Mapping[str, Tensor]) -> Inspected:
    wide = {part: tensor.double() for part, tensor in parts.items()}
    try:
        rank, strength = _size(files, name, wide)
        norm = None if peft.is_dora(files) or "dora_scale" in parts else _norm(wide)
    except (KeyError, RuntimeError, IndexError) as error:
        raise Refused(f"adapter_path: {files.weights} cannot be read at {name}: {error}") from error
    numbers = sum(tensor.numel() for part, tensor in parts.items() if part != "alpha")
    scaled = None if norm is None else norm * (1.0 if strength is None else abs(strength))
    return Inspected(name, rank, strength, scaled, numbers)


def _size(files: AdapterFiles, name: str, parts: formulas.Parts) -> tuple[int | None, float | None]:
    """Rank and strength, where the type has them."""
    if files.kind in _SIZED:
        rank, strength = peft_size(peft.config_of(files), files.kind, name)
        return (parts["lora_E"].shape[0] if files.kind == "ADALORA" else rank), strength
    if files.kind.endswith("LyCORIS"):
        return formulas.lycoris_rank(parts), formulas.lycoris_strength(parts)
    return None, None


def _norm(parts: formulas.Parts) -> float | None:
    """Norm of the update before its strength."""
    differences = [parts[part].norm().item() for part in delta.PARTS if part in parts]
    if differences:
        return math.hypot(*differences)
    if any(part.startswith("lokr") for part in parts):
        return math.prod(_factor(parts, f"lokr_w{which}") for which in (1, 2))
    if "hada_w1_a" in parts:
        return _product(formulas.loha(parts))
    if "lora_E" in parts:
        return _product(formulas.adalora(parts))
    pairs = (("lora_B.weight", "lora_A.weight"), ("lora_up.weight", "lora_down.weight"))
    return next((_product(formulas.product(parts[up], parts[down])) for up, down in pairs if up in parts), None)


def _factor(parts: formulas.Parts, name: str) -> float:
    if name in parts:
        return parts[name].norm().item()
    return _product(formulas.product(parts[f"{name}_a"], parts[f"{name}_b"]))


def _product(update: LowRank) -> float:
    """|B A| from the products of columns and of rows with each other."""
    return torch.sum((update.b.T @ update.b) * (update.a @ update.a.T)).clamp(min=0).sqrt().item()


def page(found: Inspection) -> str:
    """What was found, for reading: modules by kind."""
    numbers = sum(one.parameters for one in found.modules)
    lines = [
        f"adapter: {found.weights}",
        f"kind: {found.kind}, written as {found.layout} does, {' and '.join(found.dtypes)}, {found.bytes:,} bytes",
        f"base: {found.base or 'not said'}",
        f"modules: {len(found.modules)}, {numbers:,} parameters",
    ]
    groups: dict[tuple[str, int | None, float | None], list[Inspected]] = {}
    for one in found.modules:
        groups.setdefault((one.kind, one.rank, one.strength), []).append(one)
    lines += [f"  {_line(kind, rank, strength, ones)}" for (kind, rank, strength), ones in groups.items()]
    still = sum(one.norm == 0 for one in found.modules)
    lines += [f"{still} modules change nothing"] if still else []
    lines += [f"{key}: {_short(value)}" for key, value in sorted(found.metadata.items())]
    return "\n".join([*lines, *filter(None, [found.advice()])])


def _line(kind: str, rank: int | None, strength: float | None, ones: Sequence[Inspected]) -> str:
    said = [f"{len(ones)} x {kind}"]
    said += [] if rank is None else [f"rank {rank}"]
    said += [] if strength is None else [f"strength {strength:.4g}"]
    norms = [one.norm for one in ones if one.norm is not None]
    if norms:
        low, high = f"{min(norms):.3g}", f"{max(norms):.3g}"
        said += [f"norm {low}" if low == high else f"norm {low} to {high}"]
    return ", ".join([*said, f"{sum(one.parameters for one in ones):,} parameters"])


def _short(value: str) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= 100 else f"{flat[:97]}..."
