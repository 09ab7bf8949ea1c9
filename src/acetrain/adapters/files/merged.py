"""A checkpoint with an adapter in its weights: the layout, the shards and the formats of the one it was made from."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from acetrain.acestep.layouts import Checkpoint, Official
from acetrain.adapters.files.written import write
from acetrain.errors import Refused

COMPONENT = "transformer"


def save(
    checkpoint: Checkpoint,
    weights: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype | None,
    advance: Callable[[], None],
) -> None:
    """Write `checkpoint` to `folder` with these weights of the DiT, by diffusers name, in `dtype` or each in the format
    that it has there; all else as it is. `advance` is called after each file of weights.

    Raises Refused where a file cannot be read.
    """
    by_file: dict[Path, dict[str, str]] = {file: {} for file in checkpoint.files(COMPONENT)}
    for name, slot in checkpoint.tensors(COMPONENT).items():
        by_file[slot.file][slot.key] = name
    for file in _others(checkpoint, set(by_file)):
        target = folder / file.relative_to(checkpoint.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for file, names in by_file.items():
        tensors, metadata = _read(file)
        for key, name in names.items():
            tensors[key] = weights[name].to(dtype or tensors[key].dtype)
        write(tensors, folder / file.relative_to(checkpoint.folder), None, metadata)
        advance()
    if dtype is not None:
        _measure(checkpoint, folder, list(by_file))


def _others(checkpoint: Checkpoint, replaced: set[Path]) -> Iterator[Path]:
    """The files of the checkpoint that stay as they are, and no folder of another variant's."""
    parts = checkpoint.folder.iterdir() if isinstance(checkpoint, Official) else checkpoint.folder.rglob("*")
    yield from (file for file in sorted(parts) if file.is_file() and file not in replaced)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            return {key: stored.get_tensor(key) for key in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise Refused(f"model: {file} cannot be read ({error})") from error


def _measure(checkpoint: Checkpoint, folder: Path, files: list[Path]) -> None:
    """Let an index of shards say how large they are now."""
    for index in {file.parent for file in files}:
        for source in index.glob("*.safetensors.index.json"):
            target = folder / source.relative_to(checkpoint.folder)
            content = json.loads(target.read_text())
            sizes = [_bytes(folder / file.relative_to(checkpoint.folder)) for file in files]
            content["metadata"] = {**content.get("metadata", {}), "total_size": sum(sizes)}
            target.write_text(json.dumps(content, indent=2))


def _bytes(file: Path) -> int:
    from acetrain.tensorfile import read_header

    return sum(stored.length for stored in read_header(file).tensors.values())
