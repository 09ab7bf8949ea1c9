"""A checkpoint with an adapter in its weights: in the layout and shards of the one it was made from, or the other."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from acetrain.acestep.layouts import SILENCE, Checkpoint, Official, Slot
from acetrain.acestep.load import read_silence
from acetrain.acestep.relayout import Plan, Source
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
    _copy({str(file.relative_to(checkpoint.folder)): file for file in _others(checkpoint, set(by_file))}, folder)
    for file, names in by_file.items():
        tensors, metadata = _read(file)
        for key, name in names.items():
            tensors[key] = weights[name].to(dtype or tensors[key].dtype)
        write(tensors, folder / file.relative_to(checkpoint.folder), None, metadata)
        advance()
    if dtype is not None:
        _measure({folder / file.parent.relative_to(checkpoint.folder) for file in by_file})


def save_as(
    plan: Plan,
    checkpoint: Checkpoint,
    weights: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype | None,
    advance: Callable[[], None],
) -> None:
    """Write `checkpoint` to `folder` as `plan` lays it out; otherwise as `save`."""
    _copy(plan.copies, folder)
    for name, text in plan.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    slots = {component: checkpoint.tensors(component) for component in {one.component for one in _sources(plan)}}
    for name, held in plan.weights.items():
        tensors = {key: _tensor(checkpoint, slots[source.component], source) for key, source in held.items()}
        for key, source in held.items():
            if source.component == COMPONENT:
                tensors[key] = weights[source.name].to(dtype or tensors[key].dtype)
        write(tensors, folder / name, None, {})
        advance()
    if plan.silence:
        silence = _stored(checkpoint.tensors("condition_encoder")[SILENCE])
        torch.save(silence.transpose(1, 2).contiguous(), folder / plan.silence)
    _measure({(folder / name).parent for name in plan.weights})


def _sources(plan: Plan) -> Iterator[Source]:
    for held in plan.weights.values():
        yield from held.values()


def _tensor(checkpoint: Checkpoint, slots: Mapping[str, Slot], source: Source) -> Tensor:
    if source.name in slots:
        return _stored(slots[source.name])
    assert checkpoint.silence_file is not None and source.name == SILENCE
    return read_silence(checkpoint.silence_file)


def _stored(slot: Slot) -> Tensor:
    try:
        with safe_open(slot.file, framework="pt", device="cpu") as stored:
            return stored.get_tensor(slot.key)
    except (OSError, SafetensorError) as error:
        raise Refused(f"model: {slot.file} cannot be read ({error})") from error


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    for name, file in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


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


def _measure(folders: set[Path]) -> None:
    """Let each index of shards say how large they are."""
    for index in (index for folder in folders for index in folder.glob("*.safetensors.index.json")):
        content = json.loads(index.read_text())
        sizes = [_bytes(index.parent / name) for name in set(content["weight_map"].values())]
        content["metadata"] = {**content.get("metadata", {}), "total_size": sum(sizes)}
        index.write_text(json.dumps(content, indent=2))


def _bytes(file: Path) -> int:
    from acetrain.tensorfile import read_header

    return sum(stored.length for stored in read_header(file).tensors.values())
