"""Saved adapters of any type: what is there, whether it can be attached, and attaching it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.adapters.files import lycoris, peft, whole
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.kinds import ADDITIVE, UNSCALED
from acetrain.errors import Refused, require
from acetrain.tensorfile import Header, read_header

if TYPE_CHECKING:
    from torch import nn

NAMES = (peft.WEIGHTS, *lycoris.WEIGHTS.values(), whole.WEIGHTS)
"""What the weights in an adapter's folder may be called."""


def locate(path: Path) -> AdapterFiles:
    """The files of the adapter at `path`, its folder or its safetensors. Raises Refused where one is missing or
    foreign."""
    named = (path / name for name in NAMES if (path / name).is_file())
    weights = next(named, path / peft.WEIGHTS) if path.is_dir() else path
    header = _header(weights)
    if header is not None and lycoris.is_own(header):
        return AdapterFiles(weights, lycoris.kind_of(header))
    if header is not None and whole.is_own(header):
        return AdapterFiles(weights, whole.KIND)
    return peft.locate(path)


def _header(weights: Path) -> Header | None:
    try:
        return read_header(weights)
    except (OSError, ValueError):
        return None


def written_step(folder: Path) -> int | None:
    """The step that the whole adapter in `folder` was saved after; None where there is none."""
    try:
        step = read_header(locate(folder).weights).metadata.get("step")
    except (Refused, OSError, ValueError):
        return None
    return None if step is None else int(step)


def said_base(files: AdapterFiles) -> str:
    """The model that the adapter says it is for; empty where it does not say."""
    named = "" if files.config is None else peft.config_of(files).get("base_model_name_or_path")
    return header_of(files).metadata.get("base") or named or ""


def header_of(files: AdapterFiles) -> Header:
    """The header of the weights. Raises Refused where the file is not whole."""
    try:
        return read_header(files.weights)
    except (OSError, ValueError) as error:
        raise Refused(f"adapter_path: {files.weights} cannot be read as safetensors ({error})") from error


def check(adapters: Sequence[tuple[Path, float]]) -> None:
    """Raise Refused unless the adapters, each at its scale, are there and can be attached together."""
    kinds = []
    for path, scale in adapters:
        files = locate(path)
        kinds.append("DoRA" if peft.is_dora(files) else files.kind)
        if kinds[-1] in UNSCALED:
            require(
                scale == 1, "scale", f"1 for the {kinds[-1]} adapter {path}, whose rotations have no strength", scale
            )
    if len(kinds) > 1:
        alike = len(set(kinds)) == 1 and kinds[0] in ADDITIVE
        require(alike, "adapter_paths", f"of one type, {' or '.join(ADDITIVE)}, to be added up", ", ".join(kinds))


def load(dit: "nn.Module", adapters: Sequence[tuple[Path, float]]) -> None:
    """Attach adapters to the DiT, each from its path at that scale times its trained strength; their updates add up.

    Raises Refused if a tensor belongs to no module of the DiT, a module lacks a part, or a shape does not fit.
    """
    check(adapters)
    found = [(locate(path), scale) for path, scale in adapters]
    for kind, loads in (("LyCORIS", lycoris.load), ("full", whole.load)):
        if found and found[0][0].kind.endswith(kind):
            return loads(dit, found)
    peft.load(dit, found)
