"""What a safetensors file holds, read from its header alone: no torch, no tensor in memory."""

import json
import struct
from pathlib import Path
from typing import NamedTuple


class Stored(NamedTuple):
    """One tensor of a file."""

    dtype: str
    """Format's own name, such as F32 or BF16."""
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the file."""
    length: int
    """Bytes."""


class Header(NamedTuple):
    """A file's metadata and where its tensors lie."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]


def read_header(file: Path) -> Header:
    """The header of a safetensors file.

    Raises ValueError where the file is not whole (a header that cannot be read, or a length that does not fit it),
    OSError where it cannot be opened.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > size - 8:
            raise ValueError("not a whole safetensors file")
        described = json.loads(stream.read(length))
    try:
        metadata = dict(described.pop("__metadata__", {}))
        tensors = {name: _stored(entry, 8 + length) for name, entry in described.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError("not the header of a safetensors file") from error
    if size != max((stored.start + stored.length for stored in tensors.values()), default=8 + length):
        raise ValueError("its length does not fit its header")
    return Header(metadata, tensors)


def _stored(entry: dict, data: int) -> Stored:
    start, end = entry["data_offsets"]
    return Stored(entry["dtype"], tuple(entry["shape"]), data + start, end - start)
