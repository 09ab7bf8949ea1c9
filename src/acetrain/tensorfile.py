"""What a safetensors file holds, read from its header alone: no torch, no tensor in memory."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

LONGEST_HEADER = 100_000_000
"""Bytes that the format allows a header."""
_NUMBERS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i"}
"""Formats of single numbers, as `struct` names them."""


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
        if length > LONGEST_HEADER:
            raise ValueError(f"its header has {length:,} bytes, more than the format's {LONGEST_HEADER:,}")
        described = _parsed(stream.read(length))
    try:
        metadata = dict(described.pop("__metadata__", {}))
        tensors = {name: _stored(entry, 8 + length) for name, entry in described.items()}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError("not the header of a safetensors file") from error
    if size != max((stored.start + stored.length for stored in tensors.values()), default=8 + length):
        raise ValueError("its length does not fit its header")
    return Header(metadata, tensors)


def read_number(file: Path, stored: Stored) -> float:
    """The one number of a tensor. Raises ValueError where it is none, or of a format that is not read."""
    with file.open("rb") as stream:
        stream.seek(stored.start)
        data = stream.read(stored.length)
    if stored.dtype == "BF16":
        data, kind = bytes(2) + data, "<f"
    else:
        kind = _NUMBERS.get(stored.dtype, "")
    if not kind or len(data) != struct.calcsize(kind):
        raise ValueError(f"must be one number, is {stored.dtype} {list(stored.shape)}")
    return struct.unpack(kind, data)[0]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError("not the header of a safetensors file") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object, in which no name may stand twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it holds {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _stored(entry: dict, data: int) -> Stored:
    start, end = entry["data_offsets"]
    if not all(type(number) is int for number in (start, end, *entry["shape"])):
        raise TypeError
    return Stored(entry["dtype"], tuple(entry["shape"]), data + start, end - start)
