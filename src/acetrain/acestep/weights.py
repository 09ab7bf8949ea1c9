"""The identity of a checkpoint's encoding weights, read from its files without torch."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from acetrain.errors import Refused
from acetrain.tensorfile import Stored, read_header

_STEMS = {
    "condition_encoder": "diffusion_pytorch_model",
    "text_encoder": "model",
    "vae": "diffusion_pytorch_model",
}
"""The components that encode songs and prompts -> how the diffusers layout names their files."""
_CHUNK = 1 << 24
_BLOCKS, _BLOCK = 64, 1 << 16

Stamp = list[str | int]
"""A file as remembered: [absolute path, size in bytes, modification time in ns]."""


def stamps(folder: Path) -> list[Stamp]:
    """What tells whether the encoding weights changed since they were hashed."""
    files = [file for component in _STEMS for file in _files(folder, component)]
    return [[str(file.resolve()), (status := file.stat()).st_size, status.st_mtime_ns] for file in files]


def hash_weights(folder: Path) -> str:
    """SHA-256 over the encoding tensors in the order of their canonical names: component, diffusers' name, dtype,
    shape, bytes. How the tensors are spread over files does not matter.

    Raises `Refused` where a file is missing or broken.
    """
    total = hashlib.sha256()
    for name, file, stored in sorted(_tensors(folder)):
        total.update(json.dumps([name, stored.dtype, stored.shape]).encode())
        with file.open("rb") as stream:
            stream.seek(stored.start)
            for start in range(0, stored.length, _CHUNK):
                total.update(stream.read(min(_CHUNK, stored.length - start)))
    return total.hexdigest()


def sample_weights(folder: Path, component: str) -> str:
    """SHA-256 over the size of a component's files and 64 blocks spread over each: tells weights apart without reading
    gigabytes. Raises `Refused` where a file is missing."""
    total = hashlib.sha256()
    for file in _files(folder, component):
        size = file.stat().st_size
        total.update(str(size).encode())
        with file.open("rb") as stream:
            for part in range(_BLOCKS):
                stream.seek(max(0, size - _BLOCK) * part // (_BLOCKS - 1))
                total.update(stream.read(_BLOCK))
    return total.hexdigest()


def _tensors(folder: Path) -> Iterator[tuple[str, Path, Stored]]:
    for component in _STEMS:
        for file in _files(folder, component):
            try:
                tensors = read_header(file).tensors
            except (OSError, ValueError) as error:
                raise Refused(f"model: {file} cannot be read ({error})") from error
            yield from ((f"{component}.{name}", file, stored) for name, stored in tensors.items())


def _files(folder: Path, component: str) -> list[Path]:
    """The safetensors files of one component: a single one, or the parts its index names."""
    whole = folder / component / f"{_STEMS.get(component, 'diffusion_pytorch_model')}.safetensors"
    if whole.is_file():
        return [whole]
    index = whole.with_name(f"{whole.name}.index.json")
    try:
        parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except FileNotFoundError as error:
        raise Refused(f"model: {whole} is missing") from error
    except (OSError, ValueError, KeyError) as error:
        raise Refused(f"model: {index} cannot be read ({error})") from error
    missing = [part for part in parts if not whole.with_name(part).is_file()]
    if missing:
        raise Refused(f"model: {whole.with_name(missing[0])} is missing")
    return [whole.with_name(part) for part in parts]
