"""A checkpoint from disk, straight to dtype and device: the frozen base that training needs, or the whole pipeline.

The files are mapped, not read: a tensor whose dtype is the stored one stays a view of the file on a CPU, any other goes
through memory alone. Either layout gives the same modules; a test holds them to diffusers' own loading.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers import (
    AceStepConditionEncoder,
    AceStepPipeline,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.configuration_utils import ConfigMixin
from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.layouts import SILENCE, Checkpoint, Slot, others
from acetrain.acestep.model import Model
from acetrain.acestep.timbre import pool_token
from acetrain.errors import Refused

_MERGED = ("vocab.json", "merges.txt")
"""The files of a tokenizer without a `tokenizer.json`; transformers makes an empty one where both are missing."""
NULL = "null_condition_emb"
Module = TypeVar("Module", bound=nn.Module)


@dataclass
class Base:
    """What training needs of a checkpoint: the frozen DiT and two constants of its condition encoder."""

    dit: MaskedDiT
    null_condition: Float[Tensor, " width"]
    """Stands for every condition row of a song whose condition is dropped."""
    silence: Float[Tensor, "frame channel"]
    """Latents of silence, the source latents of text-to-music."""


def load_base(model: Model, dtype: torch.dtype) -> Base:
    """The frozen DiT in `dtype` on the CPU, with the null condition and the silence latent in fp32; no other weight is
    read."""
    dit = load_component(model.checkpoint, MaskedDiT, "transformer", dtype, "cpu")
    return Base(dit, *_constants(model.checkpoint))


def check_base(model: Model) -> None:
    """Raise `Refused` where `load_base` would, before a weight of the DiT is read."""
    empty_component(model.checkpoint, MaskedDiT, "transformer")
    _constants(model.checkpoint)


def _constants(checkpoint: Checkpoint) -> tuple[Float[Tensor, " width"], Float[Tensor, "frame channel"]]:
    """Null condition and latents of silence, fp32."""
    slots = checkpoint.tensors("condition_encoder")
    loaded = _read({name: slots[name] for name in (NULL, SILENCE) if name in slots}, torch.float32, "cpu")
    if NULL not in loaded:
        raise Refused(f"model: {checkpoint.folder} lacks {NULL!r}, the condition of dropped prompts")
    return loaded[NULL].flatten().clone(), _silence(checkpoint, loaded).float()[0].clone()


def load_component(
    checkpoint: Checkpoint, kind: type[Module], component: str, dtype: torch.dtype, device: torch.device | str
) -> Module:
    """One component, frozen. Raises `Refused` where tensors are missing, surplus or misshapen."""
    module, slots = empty_component(checkpoint, kind, component)
    tensors = _read(slots, dtype, device)
    if component == "condition_encoder":
        tensors[SILENCE] = _silence(checkpoint, tensors).to(device, dtype)
    module.load_state_dict(tensors, assign=True)
    return module.to(device).requires_grad_(False).eval()


def empty_component(checkpoint: Checkpoint, kind: type[Module], component: str) -> tuple[Module, Mapping[str, Slot]]:
    """A component without weights, and where they lie. Raises `Refused` where they do not fit each other."""
    config = checkpoint.config(component)
    try:
        with init_empty_weights():
            module = cast(type[ConfigMixin], kind).from_config(config)
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise Refused(
            f"model: the configuration of the {component} in {checkpoint.folder} is wrong ({error})"
        ) from error
    assert isinstance(module, kind)
    slots = checkpoint.tensors(component)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if checkpoint.silence_file:
        shapes.pop(SILENCE, None)
    _compare(shapes, slots, f"{checkpoint.folder}", component)
    return module, slots


def _compare(shapes: Mapping[str, tuple[int, ...]], slots: Mapping[str, Slot], where: str, component: str) -> None:
    missing = [name for name in shapes if name not in slots]
    surplus = [name for name in slots if name not in shapes]
    misshapen = [name for name in shapes if name in slots and slots[name].stored.shape != shapes[name]]
    if missing:
        raise Refused(f"model: {where} lacks {missing[0]!r} of the {component}{others(missing)}")
    if surplus:
        raise Refused(f"model: {where} holds {surplus[0]!r}, which the {component} does not have{others(surplus)}")
    if misshapen:
        name = misshapen[0]
        raise Refused(
            f"model: {where} holds {name!r} of the {component} in shape {slots[name].stored.shape}, "
            f"its configuration says {shapes[name]}{others(misshapen)}"
        )


def _read(slots: Mapping[str, Slot], dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
    """The tensors in `slots`, each in `dtype` on `device`."""
    by_file: dict[Path, list[tuple[str, Slot]]] = {}
    for name, slot in slots.items():
        by_file.setdefault(slot.file, []).append((name, slot))
    tensors = {}
    for file, entries in by_file.items():
        try:
            with safe_open(file, framework="pt", device="cpu") as stored:
                for name, slot in entries:
                    tensors[name] = stored.get_tensor(slot.key).to(device, dtype)
        except (OSError, SafetensorError) as error:
            raise Refused(f"model: {file} cannot be read ({error})") from error
    return tensors


def _silence(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> Float[Tensor, "1 frame channel"]:
    silence = read_silence(checkpoint.silence_file) if checkpoint.silence_file else tensors.get(SILENCE)
    channels = checkpoint.config("condition_encoder")["timbre_hidden_dim"]
    if silence is None or silence.ndim != 3 or silence.shape[0] != 1 or silence.shape[2] != channels:
        found = "no" if silence is None else f"a {tuple(silence.shape)}"
        raise Refused(f"model: {checkpoint.folder} holds {found} {SILENCE}; it must have {channels} channels")
    return silence


def read_silence(file: Path) -> Float[Tensor, "1 frame channel"]:
    """The official `silence_latent.pt`, [1, C, T], as diffusers holds it: the one pickle that is read, as tensors only.

    Raises `Refused` where it holds anything else.
    """
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Refused(f"model: {file} cannot be read as tensors ({str(error).splitlines()[0]})") from error
    if not isinstance(stored, Tensor) or stored.ndim != 3:
        raise Refused(f"model: {file} must hold one tensor of shape [1, channels, frames]")
    return stored.transpose(1, 2).contiguous()


def load_pipeline(model: Model, dtype: torch.dtype, device: torch.device | str) -> AceStepPipeline:
    """The whole inference pipeline in `dtype` on `device`, without progress bars of its own."""
    checkpoint = model.checkpoint
    detokenizer = "audio_token_detokenizer"
    encoder, tokenizer = load_text(checkpoint, dtype, device)
    pipeline = AceStepPipeline(
        vae=load_component(checkpoint, AutoencoderOobleck, "vae", dtype, device),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=load_component(checkpoint, MaskedDiT, "transformer", dtype, device),
        condition_encoder=load_condition_encoder(model, dtype, device),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        audio_tokenizer=load_component(checkpoint, AceStepAudioTokenizer, "audio_tokenizer", dtype, device),
        audio_token_detokenizer=load_component(checkpoint, AceStepAudioTokenDetokenizer, detokenizer, dtype, device),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_condition_encoder(model: Model, dtype: torch.dtype, device: torch.device | str) -> AceStepConditionEncoder:
    """The condition encoder, its timbre pooled as the model says."""
    encoder = load_component(model.checkpoint, AceStepConditionEncoder, "condition_encoder", dtype, device)
    if model.pools_token:
        pool_token(encoder.timbre_encoder)
    return encoder


def check_encoders(model: Model) -> None:
    """Raise `Refused` where a component that encodes songs would not load, before any is loaded."""
    checkpoint = model.checkpoint
    empty_component(checkpoint, AutoencoderOobleck, "vae")
    empty_component(checkpoint, AceStepConditionEncoder, "condition_encoder")
    _constants(checkpoint)
    _check_tokenizer(checkpoint)
    with init_empty_weights():
        config = transformers.AutoConfig.for_model(**checkpoint.config("text_encoder"))
        expected = transformers.AutoModel.from_config(config).state_dict()
    found = {name.removeprefix("model.") for name in checkpoint.tensors("text_encoder")}
    _refuse_missing(checkpoint, [name for name in expected if name not in found])


def _check_tokenizer(checkpoint: Checkpoint) -> None:
    words = checkpoint.folder_of("tokenizer")
    if not (words / "tokenizer.json").is_file() and not all((words / name).is_file() for name in _MERGED):
        raise Refused(f"model: {words} holds no tokenizer: neither tokenizer.json nor {' with '.join(_MERGED)}")


def _refuse_missing(checkpoint: Checkpoint, missing: Sequence[str]) -> None:
    if missing:
        folder = checkpoint.folder_of("text_encoder")
        raise Refused(f"model: {folder} lacks {missing[0]!r} of the text encoder{others(missing)}")


def load_text(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> tuple[Any, Any]:
    """Text encoder and tokenizer, by transformers' own loading; no code of the checkpoint is run."""
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    folder, words = checkpoint.folder_of("text_encoder"), checkpoint.folder_of("tokenizer")
    _check_tokenizer(checkpoint)
    checkpoint.tensors("text_encoder")
    try:
        encoder, report = transformers.AutoModel.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(words, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise Refused(f"model: {folder} cannot be loaded as a text encoder ({str(error).splitlines()[0]})") from error
    _refuse_missing(checkpoint, sorted(report["missing_keys"]))
    return encoder.to(device).requires_grad_(False).eval(), tokenizer


def text_to_music_context(silence: Float[Tensor, "row channel"], frames: int) -> Float[Tensor, "frame context"]:
    """Context latents of text-to-music: silence, repeated when short, beside a chunk mask of ones (upstream
    `prepare_src_latents` and `_build_chunk_mask`)."""
    source = silence.repeat(-(-frames // len(silence)), 1)[:frames]
    return torch.cat([source, torch.ones_like(source)], dim=-1)
