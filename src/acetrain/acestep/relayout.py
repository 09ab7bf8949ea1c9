"""A checkpoint laid out the other way: which file holds which tensor under which name, and what lies beside.

No torch.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from acetrain.acestep.layouts import SILENCE, TEXT_ENCODER, Checkpoint, Official
from acetrain.acestep.names import official
from acetrain.acestep.official import OF_PREFIX, released_config
from acetrain.errors import Refused

COMPONENTS = tuple(dict.fromkeys(OF_PREFIX.values()))
"""What the official layout keeps in one file."""
_CLASSES = {
    "transformer": ("diffusers", "AceStepTransformer1DModel"),
    "condition_encoder": ("ace_step", "AceStepConditionEncoder"),
    "audio_tokenizer": ("ace_step", "AceStepAudioTokenizer"),
    "audio_token_detokenizer": ("ace_step", "AceStepAudioTokenDetokenizer"),
    "vae": ("diffusers", "AutoencoderOobleck"),
    "text_encoder": ("transformers", "Qwen3Model"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
}
"""Component -> the library and class that diffusers loads it with."""
_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1, "shift": 1.0}
_BARE = "null_condition_emb"
"""A tensor of the condition encoder that stands in the official file without a prefix."""
_PREFIX = {component: prefix for prefix, component in OF_PREFIX.items() if prefix != _BARE}
_ENCODER_FILES = ("model", "config", "generation_config")
"""How the names of the text encoder's own files start; all others in its folder are the tokenizer's."""


class Source(NamedTuple):
    """A tensor of the checkpoint that is laid out anew."""

    component: str
    name: str
    """diffusers' name."""
    bytes: int


@dataclass(frozen=True)
class Plan:
    """The files of the other layout, by their paths in its folder."""

    weights: Mapping[str, Mapping[str, Source]]
    """File -> name in it -> where the tensor comes from."""
    texts: Mapping[str, str]
    copies: Mapping[str, Path]
    silence: str
    """File of the latents of silence, [1, C, T], as a pickle; empty where they are among the weights."""


def planned(checkpoint: Checkpoint) -> Plan:
    """How `checkpoint` is written in the layout that it is not in, in shards as large as its own.

    Raises Refused where a file is missing, or the other layout cannot say its configuration.
    """
    return _diffusers(checkpoint) if isinstance(checkpoint, Official) else _official(checkpoint)


def _official(checkpoint: Checkpoint) -> Plan:
    config = released_config({name: checkpoint.config(name) for name in COMPONENTS}, checkpoint.folder)
    tensors = {
        _official_name(source): source
        for component in COMPONENTS
        for source in _sources(checkpoint, component)
        if source.name != SILENCE
    }
    if SILENCE not in checkpoint.tensors("condition_encoder"):
        raise Refused(f"model: {checkpoint.folder} holds no {SILENCE}")
    weights, texts = _sharded(tensors, "", "model", _shard_size(checkpoint))
    folders = {"vae": "vae", "text_encoder": TEXT_ENCODER, "tokenizer": TEXT_ENCODER}
    copies = {f"{to}/{name}": file for part, to in folders.items() for name, file in _files(checkpoint, part)}
    return Plan(weights, {"config.json": _text(config), **texts}, copies, f"{SILENCE}.pt")


def _diffusers(checkpoint: Official) -> Plan:
    weights: dict[str, Mapping[str, Source]] = {}
    texts = {"model_index.json": _text({"_class_name": "AceStepPipeline", **_CLASSES})}
    texts["scheduler/scheduler_config.json"] = _text(_SCHEDULER)
    for component in COMPONENTS:
        tensors = {source.name: source for source in _sources(checkpoint, component)}
        if component == "condition_encoder":
            tensors[SILENCE] = Source(component, SILENCE, 0)
        files, index = _sharded(tensors, f"{component}/", "diffusion_pytorch_model", _shard_size(checkpoint))
        weights |= files
        config = {"_class_name": _CLASSES[component][1], **checkpoint.config(component)}
        texts |= {f"{component}/config.json": _text(config), **index}
    copies = {f"vae/{name}": file for name, file in _files(checkpoint, "vae")}
    for name, file in _files(checkpoint, "text_encoder"):
        own = file.name.split(".")[0].split("-")[0] in _ENCODER_FILES
        copies[f"{'text_encoder' if own else 'tokenizer'}/{name}"] = file
    return Plan(weights, texts, copies, "")


def _official_name(source: Source) -> str:
    return _BARE if source.name == _BARE else f"{_PREFIX[source.component]}.{official(source.name)}"


def _sources(checkpoint: Checkpoint, component: str) -> Iterator[Source]:
    for name, slot in checkpoint.tensors(component).items():
        yield Source(component, name, slot.stored.length)


def _shard_size(checkpoint: Checkpoint) -> float:
    """Bytes of the largest shard of the DiT; no bound where it is one file."""
    files = checkpoint.files("transformer")
    return max(file.stat().st_size for file in files) if len(files) > 1 else math.inf


def _sharded(
    tensors: Mapping[str, Source], folder: str, stem: str, most: float
) -> tuple[dict[str, Mapping[str, Source]], dict[str, str]]:
    """The files that hold the tensors, of at most so many bytes, and the index of several."""
    shards: list[dict[str, Source]] = [{}]
    held = 0
    for name, source in tensors.items():
        if shards[-1] and held + source.bytes > most:
            shards, held = [*shards, {}], 0
        shards[-1][name] = source
        held += source.bytes
    if len(shards) == 1:
        return {f"{folder}{stem}.safetensors": shards[0]}, {}
    files = {f"{stem}-{place:05}-of-{len(shards):05}.safetensors": one for place, one in enumerate(shards, 1)}
    index = {"metadata": {}, "weight_map": {name: file for file, one in files.items() for name in one}}
    named: dict[str, Mapping[str, Source]] = {f"{folder}{file}": one for file, one in files.items()}
    return named, {f"{folder}{stem}.safetensors.index.json": _text(index)}


def _files(checkpoint: Checkpoint, part: str) -> Iterator[tuple[str, Path]]:
    folder = checkpoint.folder_of(part)
    if not folder.is_dir():
        raise Refused(f"model: {folder} is missing")
    yield from ((file.name, file) for file in sorted(folder.iterdir()) if file.is_file())


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
