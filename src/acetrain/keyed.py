"""Randomness that belongs to a key: the same key gives the same draws, whatever ran before."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Key = str | int | bool


def seed_of(*key: Key) -> int:
    """A 63-bit seed from the key, by BLAKE2b over its JSON form, so that no two keys can run together."""
    digest = hashlib.blake2b(json.dumps(key, ensure_ascii=False).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def below(count: int, *key: Key) -> int:
    """A whole number from 0 to `count` - 1, each as likely, drawn by the key."""
    return count * seed_of(*key) >> 63


def share(*key: Key) -> float:
    """A number in [0, 1) drawn by the key."""
    return (seed_of(*key) >> 10) / 2**53


def generator(*key: Key) -> "torch.Generator":
    """A CPU generator seeded by the key; its draws are the same on every machine and rank."""
    import torch

    return torch.Generator().manual_seed(seed_of(*key))
