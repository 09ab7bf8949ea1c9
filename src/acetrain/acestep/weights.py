"""The identity of a checkpoint's weights, read from its files: the same for either layout and any sharding."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from acetrain.acestep.layouts import SILENCE, Checkpoint, Slot

ENCODING = ("condition_encoder", "text_encoder", "vae")
"""The components that encode songs and prompts."""
_CHUNK = 1 << 24
_WHOLE, _BLOCKS, _BLOCK = 1 << 18, 16, 1 << 12
"""Tensors up to the first number of bytes are sampled whole, larger ones in blocks spread over them."""

Stamp = list[str | int]
"""A file as remembered: [absolute path, size in bytes, modification time in ns]."""


def stamps(checkpoint: Checkpoint) -> list[Stamp]:
    """What tells whether the encoding weights changed since they were hashed."""
    files = {file: None for component in ENCODING for file in checkpoint.files(component)}
    if checkpoint.silence_file:
        files[checkpoint.silence_file] = None
    return [[str(file.resolve()), (status := file.stat()).st_size, status.st_mtime_ns] for file in files]


def hash_weights(checkpoint: Checkpoint) -> str:
    """SHA-256 over the encoding tensors in the order of their canonical names: component, diffusers' name, dtype,
    shape, bytes. How the tensors are spread over files does not matter.

    Raises `Refused` where a file is missing or broken.
    """
    total = hashlib.sha256()
    for name, slot in _sorted(checkpoint, ENCODING):
        total.update(json.dumps([name, *_form(slot)]).encode())
        if isinstance(slot, Slot):
            for chunk in _bytes(slot, 0, slot.stored.length):
                total.update(chunk)
        else:
            total.update(slot.tobytes())
    return total.hexdigest()


def sample_weights(checkpoint: Checkpoint, component: str) -> str:
    """SHA-256 over every tensor's canonical name, dtype, shape, and its bytes, of a large one 16 blocks of 4 KiB: tells
    weights apart without reading gigabytes. Raises `Refused` where a file is missing."""
    total = hashlib.sha256()
    for name, slot in sorted(checkpoint.tensors(component).items()):
        total.update(json.dumps([name, *_form(slot)]).encode())
        length = slot.stored.length
        spread = [(length - _BLOCK) * part // (_BLOCKS - 1) for part in range(_BLOCKS)]
        for start, count in [(0, length)] if length <= _WHOLE else [(start, _BLOCK) for start in spread]:
            for chunk in _bytes(slot, start, count):
                total.update(chunk)
    return total.hexdigest()


class _Pickled:
    """The latents of silence [1, T, C] as diffusers stores them, out of the official pickle."""

    def __init__(self, file: Path) -> None:
        from acetrain.acestep.load import read_silence

        self.tensor = read_silence(file)
        self.dtype = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[str(self.tensor.dtype).split(".")[1]]

    def tobytes(self) -> bytes:
        import torch

        return self.tensor.view(torch.uint8).numpy().tobytes()


def _sorted(checkpoint: Checkpoint, components: Sequence[str]) -> list[tuple[str, "Slot | _Pickled"]]:
    named: dict[str, Slot | _Pickled] = {
        f"{component}.{name}": slot for component in components for name, slot in checkpoint.tensors(component).items()
    }
    if checkpoint.silence_file:
        named[f"condition_encoder.{SILENCE}"] = _Pickled(checkpoint.silence_file)
    return sorted(named.items())


def _form(slot: "Slot | _Pickled") -> tuple[str, list[int]]:
    if isinstance(slot, Slot):
        return slot.stored.dtype, list(slot.stored.shape)
    return slot.dtype, list(slot.tensor.shape)


def _bytes(slot: Slot, start: int, length: int) -> Iterator[bytes]:
    with slot.file.open("rb") as stream:
        stream.seek(slot.stored.start + start)
        left = min(length, slot.stored.length - start)
        while left > 0:
            chunk = stream.read(min(_CHUNK, left))
            left -= len(chunk)
            yield chunk
