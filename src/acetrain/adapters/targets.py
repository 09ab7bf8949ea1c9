"""Which linear layers of the DiT an adapter is attached to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from acetrain.acestep.names import official
from acetrain.errors import Refused, nearest, require


@dataclass
class Targets:
    """Patterns over module names, in official or diffusers spelling.

    A pattern is whole dotted parts of a name, with `*` and `?`: `q_proj`, `self_attn`, `layers.3.cross_attn`,
    `layers.1?.*.to_k`.
    """

    include: list[str]
    """Patterns of the layers to train; a layer is taken if any of them matches."""
    exclude: list[str]
    """Patterns of layers to leave out again."""

    def select(self, layers: Mapping[str, object]) -> list[str]:
        """Names of `layers` (diffusers spelling) that are included and not excluded, in the model's order.

        Raises Refused for a pattern that matches nothing, naming the nearest, and for an empty selection.
        """
        included = {name for pattern in self.include for name in matching("targets.include", pattern, layers)}
        excluded = {name for pattern in self.exclude for name in matching("targets.exclude", pattern, layers)}
        chosen = [name for name in layers if name in included and name not in excluded]
        if not chosen:
            raise Refused("targets.include: must select at least one module of the DiT, got none (see targets.exclude)")
        return chosen

    def ranks(self, layers: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """The rank of each selected module, where the targets are what gives it; else nothing."""
        return {}

    def check(self, measured_elsewhere: str) -> None:
        """Raise Refused where the selection was measured on what is not trained on, unless that is asked for."""

    def differs(self, data: str, weights: str, variant: str) -> str:
        """What the selection was measured on that is not this data set (digest), or this model (digest, variant); empty
        where it is the same, or nothing was measured."""
        return ""


@dataclass
class Blocks(Targets):
    """Layers of a range of transformer blocks, and what in them."""

    first: int
    """First block, counted from 0; a negative number counts from the end."""
    last: int
    """Last block, itself included; -1 is the last of the model."""

    def select(self, layers: Mapping[str, object]) -> list[str]:
        """The selection of `Targets` among the layers of blocks `first` to `last`.

        Raises Refused, besides, for a block that the model does not have and for an empty range.
        """
        count = 1 + max(block for name in layers if (block := block_of(name)) is not None)
        first, last = (self._position(key, count) for key in ("first", "last"))
        require(first <= last, "targets.last", f"at least targets.first ({self.first})", self.last)
        blocks = {name: block_of(name) for name in layers}
        inside = {name: None for name, block in blocks.items() if block is not None and first <= block <= last}
        return super().select(inside)

    def _position(self, key: str, count: int) -> int:
        block = getattr(self, key)
        require(-count <= block < count, f"targets.{key}", f"from {-count} to {count - 1}", block)
        return block % count


def block_of(name: str) -> int | None:
    """The transformer block that a diffusers module name lies in; None outside of the blocks."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "layers" else None


def matching(key: str, pattern: str, layers: Iterable[str], among: str = "module of the DiT") -> list[str]:
    """Those of `layers` that `pattern` covers. Raises Refused, naming `key` and the nearest, where there is none."""
    hits = [name for name in layers if matches(pattern, name)]
    if not hits:
        parts = {part for name in layers for spelt in (name, official(name)) for part in spelt.split(".")}
        words = {part for part in parts if not part.isdigit()}
        raise Refused(f"{key}: {pattern!r} matches no {among}; {nearest(pattern, words)}")
    return hits


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` covers whole dotted parts of a diffusers module name in either spelling."""
    return any(fnmatchcase(f".{spelt}.", f"*.{pattern}.*") for spelt in (name, official(name)))
