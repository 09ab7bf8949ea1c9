"""Any saved adapter as what it adds to each weight: low-rank factors, module by module."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from acetrain.acestep.names import diffusers, official
from acetrain.adapters import formulas
from acetrain.adapters.files import delta, lycoris, peft, saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.spelling import is_layer
from acetrain.adapters.low_rank import LowRank, dense_update
from acetrain.errors import Refused

if TYPE_CHECKING:
    from acetrain.acestep.model import Model

_PART = re.compile(r"\.(?=(?:lora|hada|lokr)_)")
"""Where a name in a PEFT file turns from the module to its part."""


@dataclass(frozen=True)
class Updates:
    """What an adapter adds to the weights of the modules it is on."""

    files: AdapterFiles
    names: tuple[str, ...]
    """Modules in diffusers spelling, in the file's order."""
    compute: Callable[[str], LowRank]
    """A module's update in fp64."""
    ranks: Mapping[str, int]
    """Ranks of the B A that the adapter consists of; none of types that are no such products."""
    strengths: Mapping[str, float] = field(default_factory=dict)
    """Of a LoRA, the factor of each B A."""
    rslora: bool = False
    """Whether the strength is alpha over the square root of the rank."""
    dtype: torch.dtype = torch.float32
    """Format of the tensors in the file."""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    """Trained parameters that are not weights of a linear layer or a convolution -> their change."""

    def __getitem__(self, name: str) -> LowRank:
        return self.compute(name)

    @property
    def left_out(self) -> dict[str, float]:
        """What is no update of a module -> norm of its change."""
        return {name: change.norm().item() for name, change in self.beside.items()}

    @property
    def kind(self) -> str:
        """The adapter's type, told apart from a plain LoRA where it has magnitudes."""
        return "DoRA" if peft.is_dora(self.files) else self.files.kind

    @property
    def size(self) -> tuple[int, int]:
        """Parameters of the file, alphas apart, and their bytes."""
        header = saved.header_of(self.files)
        stored = [one for name, one in header.tensors.items() if not name.endswith(".alpha")]
        return sum(math.prod(one.shape) for one in stored), sum(one.length for one in stored)

    @property
    def metadata(self) -> dict[str, str]:
        """What the header of the file says of its making."""
        return saved.header_of(self.files).metadata

    @property
    def base(self) -> str:
        """The model that the adapter says it is for; empty where it does not."""
        return saved.said_base(self.files)


def read_updates(path: Path, model: "Model | None" = None) -> Updates:
    """Read the adapter at `path`, its folder or its safetensors; `model` is what it was trained on, for the types whose
    update follows from the base's weights too.

    Raises Refused where a tensor is not finite, is of no type that is read, or does not fit, and where `model` is
    missing.
    """
    return updates_of(saved.locate(path), model)


def updates_of(files: AdapterFiles, model: "Model | None" = None) -> Updates:
    """Read an adapter that has been located; otherwise as `read_updates`."""
    if saved.needs_base(files):
        if model is None:
            raise Refused(f"adapter_path: {files.weights} is a {files.kind} adapter, which needs its base's weights")
        from acetrain.adapters.from_base import read_from_base

        return read_from_base(files, model)
    tensors = read_finite(files)
    if files.kind == delta.KIND:
        return _of_delta(files, tensors)
    return _of_lycoris(files, tensors) if files.kind == "LyCORIS" else _of_peft(files, tensors)


def read_finite(files: AdapterFiles) -> dict[str, Tensor]:
    """The adapter's tensors in their own format. Raises Refused for one with NaN or infinity in it."""
    tensors = files.read()
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise Refused(f"adapter_path: {files.weights}: {name} holds NaN or infinity")
    if not tensors:
        raise Refused(f"adapter_path: {files.weights} holds no tensor")
    return tensors


def _of_peft(files: AdapterFiles, tensors: Mapping[str, Tensor]) -> Updates:
    parts = _parts_of_peft(files, tensors)
    config = peft.config_of(files)
    sizes = {name: peft_size(config, files.kind, official(name)) for name in parts}
    ranks = {name: rank for name, (rank, _) in sizes.items()}
    formula = formulas.PEFT[files.kind]

    def compute(name: str) -> LowRank:
        return _guarded(files, name, formula, parts[name]).times(sizes[name][1])

    strengths = {name: strength for name, (_, strength) in sizes.items()} if files.kind == "LORA" else {}
    rslora = files.kind == "LORA" and bool(config.get("use_rslora"))
    own = ranks if files.kind in ("LORA", "ADALORA") else {}
    return Updates(files, tuple(parts), compute, own, strengths, rslora, _dtype(tensors))


def _parts_of_peft(files: AdapterFiles, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for filed, tensor in tensors.items():
        module, *part = _PART.split(filed.removeprefix(peft.PREFIX), maxsplit=1)
        if not part or not filed.startswith(peft.PREFIX):
            raise Refused(f"adapter_path: {files.weights}: {filed!r} is no {files.kind} tensor of a PEFT file")
        parts.setdefault(diffusers(module), {})[part[0]] = tensor
    return parts


def peft_size(config: Mapping[str, Any], kind: str, name: str) -> tuple[int, float]:
    """Rank and strength of a module by its official name, as PEFT resolves patterns and computes the strength."""
    if kind == "ADALORA":
        rank = int(config["init_r"])
        return rank, (config.get("lora_alpha") or rank) / (rank + formulas.ADALORA_EPS)
    rank = int(peft.resolved(config, "rank_pattern", "r", name))
    alpha = float(peft.resolved(config, "alpha_pattern", "lora_alpha" if kind == "LORA" else "alpha", name))
    return rank, alpha / (math.sqrt(rank) if kind == "LORA" and config.get("use_rslora") else rank)


def _of_lycoris(files: AdapterFiles, tensors: Mapping[str, Tensor]) -> Updates:
    parts: dict[str, dict[str, Tensor]] = {}
    for filed, tensor in tensors.items():
        key, _, part = filed.partition(".")
        parts.setdefault(lycoris.module_of(key), {})[part] = tensor

    def compute(name: str) -> LowRank:
        return _guarded(files, name, formulas.lycoris, parts[name])

    return Updates(files, tuple(parts), compute, {}, dtype=_dtype(tensors))


def _of_delta(files: AdapterFiles, tensors: Mapping[str, Tensor]) -> Updates:
    changes = {delta.parameter_of(filed): tensor.double() for filed, tensor in tensors.items()}
    layers = [name for name in changes if name.endswith(".weight") and is_layer(name.removesuffix(".weight"))]
    held = {name.removesuffix(".weight"): changes[name] for name in layers}
    beside = {name: change for name, change in changes.items() if name not in layers}
    return Updates(files, tuple(held), lambda name: dense_update(held[name]), {}, dtype=_dtype(tensors), beside=beside)


def _guarded(files: AdapterFiles, name: str, formula: Callable[[Any], LowRank], parts: formulas.Parts) -> LowRank:
    try:
        return formula({part: tensor.double() for part, tensor in parts.items()})
    except (KeyError, RuntimeError) as error:
        raise Refused(f"adapter_path: {files.weights} cannot be read at {official(name)}: {error}") from error


def _dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The format that the weights are in; fp32 where they are in several."""
    found = {tensor.dtype for name, tensor in tensors.items() if not name.endswith(".alpha")}
    return found.pop() if len(found) == 1 and found <= {torch.float16, torch.bfloat16} else torch.float32
