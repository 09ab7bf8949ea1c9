"""Ogg streams that are the same for the same sound: encoders give each a random serial number."""

import struct
from functools import cache

_HEADER = 27


def with_serial(data: bytes, serial: int) -> bytes:
    """The same Ogg stream with every page's serial number set and its checksum renewed (RFC 3533, section 6)."""
    stream = bytearray(data)
    start = 0
    while start < len(stream):
        if stream[start : start + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {start}")
        segments = stream[start + 26]
        lacing = stream[start + _HEADER : start + _HEADER + segments]
        end = start + _HEADER + segments + sum(lacing)
        struct.pack_into("<I", stream, start + 14, serial)
        struct.pack_into("<I", stream, start + 22, 0)
        struct.pack_into("<I", stream, start + 22, _checksum(stream[start:end]))
        start = end
    return bytes(stream)


def _checksum(page: bytearray) -> int:
    """CRC-32 with polynomial 0x04c11db7, not reflected, starting from 0."""
    value, table = 0, _table()
    for byte in page:
        value = (value << 8) & 0xFFFFFFFF ^ table[(value >> 24) ^ byte]
    return value


@cache
def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        value = entry << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        entries.append(value & 0xFFFFFFFF)
    return tuple(entries)
