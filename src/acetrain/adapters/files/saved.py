"""Saved adapters of any type: what is there, whether it can be attached, and attaching it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.adapters.files import delta, lycoris, peft, whole
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.places import opened, weights_at
from acetrain.adapters.files.recognise import recognise
from acetrain.adapters.kinds import ADDITIVE, UNSCALED
from acetrain.adapters.kinds import needs_base as kind_needs_base
from acetrain.errors import Refused, require
from acetrain.tensorfile import Header, read_header

if TYPE_CHECKING:
    from torch import nn


def locate(path: Path, alpha: float | None = None) -> AdapterFiles:
    """The files of the adapter at `path`, its file, its folder or its run's, in any layout that is known; `alpha` is
    that of its modules where they say none.

    Raises Refused where there is no adapter, or none that is whole and of known strength.
    """
    weights = weights_at(path)
    header = opened(weights)
    if whole.is_own(header):
        return AdapterFiles(weights, whole.KIND, layout="acetrain")
    config = weights.parent / peft.CONFIG
    return recognise(weights, header, config if config.is_file() else None, alpha)


def written_step(folder: Path) -> int | None:
    """The step that the whole adapter in `folder` was saved after; None where there is none."""
    try:
        step = read_header(locate(folder).weights).metadata.get("step")
    except (Refused, OSError, ValueError):
        return None
    return None if step is None else int(step)


def said_base(files: AdapterFiles) -> str:
    """The model that the adapter says it is for; empty where it does not say."""
    configured = files.config is not None or files.settings is not None
    named = peft.config_of(files).get("base_model_name_or_path") if configured else ""
    return header_of(files).metadata.get("base") or (named if isinstance(named, str) else "")


def header_of(files: AdapterFiles) -> Header:
    """The header of the weights. Raises Refused where the file is not whole."""
    return opened(files.weights)


def needs_base(files: AdapterFiles) -> bool:
    """Whether what the adapter adds to each weight can be told only beside the base."""
    return kind_needs_base(files.kind, peft.is_dora(files)) or lycoris.is_flat(files)


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
    for kind, loads in (("LyCORIS", lycoris.load), ("full", whole.load), (delta.KIND, delta.load)):
        if found and found[0][0].kind.endswith(kind):
            return loads(dit, found)
    peft.load(dit, found)
