"""Whether a saved adapter is one that a run can go on from; known without loading it."""

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files import peft, saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.errors import Refused
from acetrain.tensorfile import read_header

KEY = "adapter.start_from"


def check_fit(path: Path, kind: str, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raise Refused, naming what differs, unless the adapter at `path` is of this PEFT type, on exactly these modules,
    with these settings."""
    files = located(path)
    if files.kind != kind:
        raise Refused(f"{KEY}: {path} is a {files.kind} adapter, this run trains {kind}")
    refuse_modules(path, names, modules(files))
    refuse_changes(path, _differences(kind, settings, peft.config_of(files), names))


def refuse_modules(path: Path, ours: Sequence[str], theirs: Set[str]) -> None:
    """Raise Refused, naming the first of those that differ, unless both are the same modules."""
    differing = sorted(set(ours) ^ theirs)
    if differing:
        where = "there and not here" if differing[0] in theirs else "here and not there"
        raise Refused(
            f"{KEY}: {path} is on other modules: {official(differing[0])} is {where}, {len(differing)} differ; "
            "targets must be those it was trained on"
        )


def refuse_changes(path: Path, differences: Sequence[tuple[str, Any, Any]]) -> None:
    """Raise Refused where there is any: key, value here, value there."""
    changes = [f"{key} ({there} there, {here} here)" for key, here, there in differences]
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise Refused(f"{KEY}: {path} has other settings: {', '.join(changes[:3])}{more}")


def digest(path: Path) -> str:
    """SHA-256 of the adapter's tensors."""
    with located(path).weights.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def located(path: Path) -> AdapterFiles:
    """The files of the adapter that is to be gone on from. Raises Refused where one is missing or foreign."""
    try:
        return saved.locate(path)
    except Refused as refusal:
        raise Refused(str(refusal).replace("adapter_path", KEY)) from refusal


def modules(files: AdapterFiles) -> set[str]:
    """The modules that the file has tensors of, in diffusers spelling."""
    try:
        tensors = read_header(files.weights).tensors
    except (OSError, ValueError) as error:
        raise Refused(f"{KEY}: {files.weights} cannot be read as safetensors ({error})") from error
    named = [files.names.get(name, name) for name in tensors]
    own = [name.removeprefix(peft.PREFIX) for name in named if name.startswith(peft.PREFIX)]
    return {diffusers(re.split(r"\.(?:lora|lokr|hada|oft|boft|vera|ia3)_", name)[0]) for name in own}


def _differences(
    kind: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Sequence[str]
) -> list[tuple[str, Any, Any]]:
    """Settings that change what the weights do: key, value here, value there."""
    plain = [key for key in peft.SETTINGS[kind] if not key.endswith("_pattern") and key != "feedforward_modules"]
    pairs = [(key, ours.get(key), theirs.get(key)) for key in plain]
    for key, value in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha" if kind == "LORA" else "alpha")):
        if key not in peft.SETTINGS[kind]:
            continue
        for name in names:
            here = (ours.get(key) or {}).get(name, ours.get(value))
            pairs.append((f"{value} of {official(name)}", here, peft.resolved(theirs, key, value, official(name))))
    return [(key, here, there) for key, here, there in pairs if (here or None) != (there or None)]
