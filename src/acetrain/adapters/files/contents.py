"""The tensors of an adapter's file, sorted by module and part from its header. No torch."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acetrain.adapters.files import peft
from acetrain.adapters.files.spelling import layout_of, start_of, told
from acetrain.errors import Refused
from acetrain.tensorfile import Header, Stored

_CONVOLUTIONS = ("proj_in_conv", "proj_out_conv")
"""Modules that no adapter is put on here, and others' wrap without training them."""


@dataclass(frozen=True)
class Filed:
    """A tensor of a module: its name in the file, and how it is stored."""

    key: str
    stored: Stored


Parts = Mapping[str, Mapping[str, Filed]]
"""Module in diffusers spelling -> part -> its tensor."""


@dataclass(frozen=True)
class Contents:
    """What the header of a file says."""

    weights: Path
    metadata: Mapping[str, str]
    parts: Parts
    shared: Collection[str]
    """Names of tensors that belong to no one module."""
    dropped: Collection[str]
    """Names of tensors that add nothing to layers that no adapter is put on."""
    layout: str

    @property
    def kinds(self) -> set[str]:
        """All parts that modules have."""
        return {part for parts in self.parts.values() for part in parts}

    def refuse(self, words: str) -> Refused:
        """A refusal of the file."""
        return Refused(f"adapter_path: {self.weights}: {words}")

    def names(self, spell: Any, taken: Collection[str] = ()) -> dict[str, str]:
        """Name in the file -> `spell(module, part)`; parts that are `taken` in otherwise have none."""
        found = {
            filed.key: "" if part in taken else spell(module, part)
            for module, parts in self.parts.items()
            for part, filed in parts.items()
        }
        return found | dict.fromkeys(self.dropped, "")


def sort_tensors(weights: Path, header: Header) -> Contents:
    """The tensors by module. Products that add nothing are left out where no adapter can go.

    Raises Refused for other names of no module, and for two names of one tensor.
    """
    parts: dict[str, dict[str, Filed]] = {}
    strangers: dict[str, list[str]] = {}
    shared = [key for key in header.tensors if key in peft.SHARED.values()]
    for key, stored in header.tensors.items():
        if key in shared:
            continue
        if (found := told(key)) is None:
            strangers.setdefault(start_of(key), []).append(key)
            continue
        before = parts.setdefault(found.module, {}).setdefault(found.part, Filed(key, stored))
        if before.key != key:
            raise Refused(f"adapter_path: {weights}: {before.key!r} and {key!r} are the same tensor of one module")
    idle = {name: keys for name, keys in strangers.items() if _adds_nothing(weights, header, keys)}
    dropped = [key for keys in idle.values() for key in keys]
    for name in _CONVOLUTIONS:
        keys = [filed.key for filed in parts.get(name, {}).values()]
        if keys and _adds_nothing(weights, header, keys):
            dropped += keys
            del parts[name]
    unknown = [name for name in strangers if name not in idle]
    if unknown:
        first = ", ".join(unknown[:3])
        raise Refused(f"adapter_path: {weights}: {len(unknown)} modules are not in the DiT, the first {first}")
    if not parts:
        raise Refused(f"adapter_path: {weights} holds no tensor of an adapter")
    keys = [filed.key for found in parts.values() for filed in found.values()]
    return Contents(weights, header.metadata, parts, shared, dropped, layout_of(keys[0]))


def _adds_nothing(weights: Path, header: Header, keys: Sequence[str]) -> bool:
    """Whether a factor of a product among the tensors is all zeros."""
    factors = [key for key in keys if re.search(r"\.(?:lora|hada|lokr)_", key)]
    return any(_is_zero(weights, header.tensors[key]) for key in factors)


def _is_zero(weights: Path, stored: Stored) -> bool:
    with weights.open("rb") as stream:
        stream.seek(stored.start)
        return stream.read(stored.length).count(0) == stored.length
