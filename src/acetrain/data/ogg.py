"""Ogg files that repeat: an encoder draws a random serial number for every stream, and it is in every page."""

import struct
from functools import cache

_PAGE = struct.Struct("<4sBBqIIIB")
"""Header of a page (RFC 3533, section 6): magic, version, flags, position, serial, number, checksum, segments."""
_POLYNOMIAL = 0x04C11DB7


def renumber(data: bytes, serial: int) -> bytes:
    """The same single stream under another serial number, its checksums made right again.

    Raises ValueError where `data` is not a sequence of Ogg pages.
    """
    pages = bytearray()
    start = 0
    while start < len(data):
        magic, version, flags, position, _, number, _, segments = _PAGE.unpack_from(data, start)
        if magic != b"OggS":
            raise ValueError(f"no Ogg page at byte {start}")
        body = start + _PAGE.size
        end = body + segments + sum(data[body : body + segments])
        page = _PAGE.pack(magic, version, flags, position, serial, number, 0, segments) + data[body:end]
        pages += page[:22] + struct.pack("<I", _checksum(page)) + page[26:]
        start = end
    return bytes(pages)


def _checksum(page: bytes) -> int:
    table = _table()
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


@cache
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        value <<= 24
        for _ in range(8):
            value = (value << 1) ^ (_POLYNOMIAL if value & 0x80000000 else 0)
        return value & 0xFFFFFFFF

    return tuple(entry(value) for value in range(256))
