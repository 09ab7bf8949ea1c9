"""Which file a key's value came from, for messages."""

from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from acetrain.composition.complaints import loaded, shown

Layer = tuple[str, Path]
"""What a file's keys are below, such as `adapter.`, and the file."""


def located(message: str, layers: Sequence[Layer], given: Collection[str]) -> str:
    """`message`, which starts with a key, with the first of the layers that sets the key before it.

    A key among those `given` as arguments is its own place.
    """
    key = message.partition(":")[0]
    if key in given:
        return message
    for prefix, file in layers:
        if key.startswith(prefix) and _sets(file, key.removeprefix(prefix)):
            return f"{shown(file)}: {message}"
    return message


def _sets(file: Path, key: str) -> bool:
    node = OmegaConf.to_container(loaded(file), resolve=False)
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return node != "???"
