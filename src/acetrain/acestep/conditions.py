"""What a song becomes before training: latents by the model's VAE, and the condition exactly as at inference."""

import hashlib
import inspect
import json
import math
from typing import Any, NamedTuple

import torch
from diffusers import AceStepConditionEncoder, AceStepPipeline, AutoencoderOobleck
from jaxtyping import Bool, Float
from torch import Tensor

from acetrain.acestep.load import load_text
from acetrain.acestep.model import Model
from acetrain.data.prompt import Prompt

TASK = "text2music"
TIMBRE_SECONDS = 30
"""Length of upstream's timbre reference."""
TILE = 750
"""Latent frames the VAE encodes at once; longer songs are encoded in tiles of this many."""
OVERLAP = 50
"""Latent frames of context on either side of a tile, cut away; the encoder sees about 7 frames to either side."""


def load_text_pipeline(model: Model, dtype: torch.dtype, device: torch.device) -> AceStepPipeline:
    """The pipeline with its text encoder and tokenizer alone: what words and encodes prompts."""
    encoder, tokenizer = load_text(model.checkpoint, dtype, device)
    absent: Any = None
    return AceStepPipeline(
        text_encoder=encoder,
        tokenizer=tokenizer,
        vae=absent,
        transformer=absent,
        condition_encoder=absent,
        scheduler=absent,
    )


@torch.no_grad()
def encode_latents(
    vae: AutoencoderOobleck, audio: Float[Tensor, "2 sample"], generator: torch.Generator, tile: int = TILE
) -> Float[Tensor, "frame channel"]:
    """A draw of the VAE's posterior, fp32 on the CPU; samples beyond the last whole latent frame are left out.

    `audio` is at the VAE's own rate. The noise of the whole song is drawn at once from `generator` (CPU): tiles do not
    show in it.
    """
    hop = vae.hop_length
    vae.tile_sample_min_length, vae.tile_sample_overlap = tile * hop, OVERLAP * hop
    vae.enable_tiling()
    whole = audio[None, :, : audio.shape[-1] // hop * hop]
    posterior = vae.encode(whole.to(vae.device, vae.dtype), return_dict=False)[0]
    return posterior.sample(generator)[0].T.float().cpu().contiguous()


class PromptStates(NamedTuple):
    """What upstream's `encode_prompt` gives for one prompt: hidden states and which of their rows are valid."""

    text: Float[Tensor, "1 row width"]
    text_mask: Bool[Tensor, "1 row"]
    lyrics: Float[Tensor, "1 line width"]
    lyrics_mask: Bool[Tensor, "1 line"]


@torch.no_grad()
def encode_prompt(pipeline: AceStepPipeline, prompt: Prompt, duration: float) -> PromptStates:
    """Text and lyrics as `AceStepPipeline.__call__` encodes them for this prompt and duration in seconds."""
    return PromptStates(
        *pipeline.encode_prompt(
            prompt=prompt.caption,
            lyrics=prompt.lyrics,
            device=pipeline.text_encoder.device,
            vocal_language=prompt.language,
            audio_duration=duration,
            instruction=pipeline._get_task_instruction(task_type=TASK),
            bpm=prompt.bpm,
            keyscale=prompt.keyscale,
            timesignature=prompt.timesignature,
        )
    )


@torch.no_grad()
def encode_condition(
    encoder: AceStepConditionEncoder, states: PromptStates, frame_rate: float
) -> Float[Tensor, "token width"]:
    """The packed condition `AceStepPipeline.__call__` gives its transformer for an encoded prompt.

    fp32 on the CPU, valid rows only; `frame_rate` is in latent frames a second.
    """
    device, dtype = encoder.device, encoder.dtype
    reference = encoder.silence_latent[:, : math.ceil(TIMBRE_SECONDS * frame_rate)]
    text, text_mask, lyrics, lyrics_mask = (state.to(device) for state in states)
    packed, mask = encoder(
        text_hidden_states=text,
        text_attention_mask=text_mask,
        lyric_hidden_states=lyrics,
        lyric_attention_mask=lyrics_mask,
        refer_audio_acoustic_hidden_states_packed=reference.to(device, dtype).contiguous(),
        refer_audio_order_mask=torch.zeros(1, device=device, dtype=torch.long),
    )
    return packed[0, mask[0]].float().cpu().contiguous()


def overlong(pipeline: AceStepPipeline, prompt: Prompt, duration: float) -> list[str]:
    """Which of caption and lyrics have more tokens than upstream reads; what is beyond, metadata included, is lost."""
    texts = pipeline._format_prompt(prompt.caption, prompt.lyrics, prompt.language, duration, None, None, None, None)
    limits = _limits()
    lengths = [len(pipeline.tokenizer(text).input_ids) for text in texts]
    return [
        f"{what} has {length} tokens, {limit} are read"
        for what, length, limit in zip(("caption", "lyrics"), lengths, limits, strict=True)
        if length > limit
    ]


def template_digest() -> str:
    """SHA-256 of how upstream words a prompt: instruction, template, metadata, lyrics format and token limits."""
    bare = object.__new__(AceStepPipeline)
    worded = bare._format_prompt(
        prompt="{caption}",
        lyrics="{lyrics}",
        vocal_language="{language}",
        audio_duration=123.9,
        instruction=AceStepPipeline._get_task_instruction(task_type=TASK),
        bpm=120,
        keyscale="{key}",
        timesignature="{meter}",
    )
    unknown = AceStepPipeline._build_metadata_string(audio_duration=1.0)
    return hashlib.sha256(json.dumps([*worded, unknown, *_limits()]).encode()).hexdigest()


def _limits() -> tuple[int, int]:
    """Tokens of text and lyrics that upstream reads."""
    parameters = inspect.signature(AceStepPipeline.encode_prompt).parameters
    return parameters["max_text_length"].default, parameters["max_lyric_length"].default
