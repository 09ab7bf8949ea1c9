"""Which linear layers of the DiT an adapter is attached to."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from acetrain.acestep.names import official
from acetrain.errors import Refused, nearest


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
        included = self._matching("include", layers)
        excluded = self._matching("exclude", layers)
        chosen = [name for name in layers if name in included and name not in excluded]
        if not chosen:
            raise Refused("targets.include: must select at least one module of the DiT, got none (see targets.exclude)")
        return chosen

    def _matching(self, key: str, layers: Mapping[str, object]) -> set[str]:
        found: set[str] = set()
        for pattern in getattr(self, key):
            hits = {name for name in layers if matches(pattern, name)}
            if not hits:
                parts = {part for name in layers for spelt in (name, official(name)) for part in spelt.split(".")}
                words = {part for part in parts if not part.isdigit()}
                raise Refused(f"targets.{key}: {pattern!r} matches no module of the DiT; {nearest(pattern, words)}")
            found |= hits
        return found


def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` covers whole dotted parts of a diffusers module name in either spelling."""
    return any(fnmatchcase(f".{spelt}.", f"*.{pattern}.*") for spelt in (name, official(name)))
