"""A sample as the official trainer and Side-Step write it: a pickle of tensors, read as tensors only, and trimmed."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acetrain.errors import Refused

LATENTS, LATENTS_MASK = "target_latents", "attention_mask"
CONDITION, CONDITION_MASK = "encoder_hidden_states", "encoder_attention_mask"
CONTEXT, GENRE = "context_latents", "encoder_hidden_states_genre"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
MASKS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *FLOATS)
_DAMAGED = (OSError, RuntimeError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError)
"""What torch raises for a file that is cut short or was written over."""
_TEXT = ("caption", "lyrics", "bpm", "keyscale", "timesignature", "language", "genre", "duration")


@dataclass(frozen=True)
class Form:
    """What the samples of a model look like."""

    channels: int
    """Channels of a latent frame."""
    width: int
    """Width of a row of the condition."""
    shortest: int
    """Latent frames a song has at least."""


class Sample(NamedTuple):
    """What a song is trained on, its padding taken off, fp32."""

    latents: Float[Tensor, "frame channel"]
    condition: Float[Tensor, "token width"]
    metadata: Mapping[str, Any]
    has_genre: bool
    """Whether a second condition, made from the genre instead of the caption, was dropped."""

    @property
    def filename(self) -> str:
        """Name of the song's audio; empty where the sample tells none that can be shown."""
        name = self.metadata.get("filename")
        return name if isinstance(name, str) and name.isprintable() else ""

    @property
    def repeat(self) -> int:
        """Visits in a pass over the songs."""
        return self.metadata.get("repeat", 1)

    def text_digest(self) -> str:
        """SHA-256 of caption, lyrics and metadata as the sample states them."""
        stated = {key: self.metadata.get(key) for key in _TEXT}
        return hashlib.sha256(json.dumps(stated, sort_keys=True, default=repr).encode()).hexdigest()


def read_sample(file: Path, form: Form) -> Sample:
    """One sample, trimmed by its masks; the context is dropped. Raises `Refused`, naming all that is wrong with it."""
    held = _load(file)
    missing = [key for key in (LATENTS, LATENTS_MASK, CONDITION, CONDITION_MASK) if key not in held]
    if missing:
        raise Refused(f"lacks {', '.join(missing)}")
    faults: list[str] = []
    latents = _trimmed(held, LATENTS, LATENTS_MASK, form.channels, faults)
    condition = _trimmed(held, CONDITION, CONDITION_MASK, form.width, faults)
    metadata = held.get("metadata", {})
    _check_metadata(held, metadata, faults)
    if latents is not None and len(latents) < form.shortest:
        faults.append(f"has {len(latents)} latent frames, at least {form.shortest} are needed")
    if faults or latents is None or condition is None:
        raise Refused("; ".join(faults))
    return Sample(latents, condition, metadata, GENRE in held)


def _load(file: Path) -> Mapping[str, Any]:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused("is no file of plain tensors; what else it may hold, code included, is not loaded") from error
    except _DAMAGED as error:
        raise Refused(f"is cut short or damaged ({(str(error).splitlines() or [type(error).__name__])[0]})") from error
    if not isinstance(held, Mapping):
        raise Refused(f"holds no sample but {type(held).__name__}")
    return held


def _trimmed(
    held: Mapping[str, Any], key: str, mask_key: str, width: int, faults: list[str]
) -> Float[Tensor, "row width"] | None:
    """The rows of `key` that its mask keeps, fp32; None, and why in `faults`, where there are none to be had."""
    rows = held[key]
    if not _plain(rows, FLOATS):
        faults.append(f"{key} must be a tensor of {', '.join(_short(kind) for kind in FLOATS)}, is {_kind(rows)}")
        return None
    if rows.ndim != 2 or rows.shape[1] != width:
        faults.append(f"{key} has shape {list(rows.shape)}, the model needs [*, {width}]")
        return None
    mask = _mask(held[mask_key], mask_key, len(rows), faults)
    if mask is None:
        return None
    if key == LATENTS and not mask[: int(mask.sum())].all():
        faults.append(f"{mask_key} has holes; a song is one piece")
        return None
    kept = rows[mask].float().contiguous()
    if not kept.isfinite().all():
        faults.append(f"{key} holds non-finite values")
        return None
    return kept


def _mask(mask: Any, key: str, rows: int, faults: list[str]) -> Bool[Tensor, " row"] | None:
    """A mask as booleans: the trainers write it as bool, whole numbers or the encoders' float format."""
    if not _plain(mask, MASKS):
        faults.append(f"{key} must be a tensor of zeros and ones, is {_kind(mask)}")
    elif mask.shape != (rows,):
        faults.append(f"{key} has shape {list(mask.shape)}, what it masks has {rows} rows")
    elif not ((mask == 0) | (mask == 1)).all():
        faults.append(f"{key} holds other values than 0 and 1")
    elif not mask.any():
        faults.append(f"{key} keeps nothing")
    else:
        return mask.bool()
    return None


def _check_metadata(held: Mapping[str, Any], metadata: Any, faults: list[str]) -> None:
    if not isinstance(metadata, Mapping):
        faults.append(f"its metadata are no mapping but {type(metadata).__name__}")
        return
    repeat = metadata.get("repeat", 1)
    if type(repeat) is not int or repeat < 1:
        faults.append(f"its repeat must be a whole number, at least 1, is {repeat!r}")
    if _given_away(held, metadata):
        faults.append("its condition was made from the song itself (preprocess_mode lokr), which gives the answer away")


def _given_away(held: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether the sample was made in the mode that takes the song as its own reference and context."""
    if str(metadata.get("preprocess_mode", "")).lower() == "lokr":
        return True
    latents, context = held[LATENTS], held.get(CONTEXT)
    if not _plain(latents, FLOATS) or not _plain(context, FLOATS) or {latents.ndim, context.ndim} != {2}:
        return False
    source = context[:, : latents.shape[1]].to(latents.dtype)
    return source.shape == latents.shape and bool(latents.any()) and torch.equal(source, latents)


def _plain(value: Any, kinds: tuple[torch.dtype, ...]) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.dtype in kinds


def _short(kind: object) -> str:
    return str(kind).removeprefix("torch.")


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return _short(value.dtype if value.layout is torch.strided else value.layout)
