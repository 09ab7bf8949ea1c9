"""What a song becomes before training: latents by the model's VAE, and the condition exactly as at inference."""

import hashlib
import inspect
import json
import math

import torch
from diffusers import AceStepPipeline, AutoencoderOobleck
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.load import load_component, load_condition_encoder, load_text
from acetrain.acestep.model import Model
from acetrain.data.prompt import Prompt

TASK = "text2music"
TIMBRE_SECONDS = 30
"""Length of upstream's timbre reference."""
TILE = 750
"""Latent frames the VAE encodes at once; longer songs are encoded in tiles of this many."""
OVERLAP = 50
"""Latent frames of context on either side of a tile, cut away; the encoder sees about 7 frames to either side."""


def load_encoders(model: Model, dtype: torch.dtype, device: torch.device) -> AceStepPipeline:
    """The pipeline without what encoding does not need: the DiT and the audio tokenizers stay on the disk."""
    encoder, tokenizer = load_text(model.checkpoint, dtype, device)
    return AceStepPipeline(
        vae=load_component(model.checkpoint, AutoencoderOobleck, "vae", dtype, device),
        text_encoder=encoder,
        tokenizer=tokenizer,
        condition_encoder=load_condition_encoder(model, dtype, device),
        transformer=None,  # pyright: ignore[reportArgumentType]
        scheduler=None,  # pyright: ignore[reportArgumentType]
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


@torch.no_grad()
def encode_condition(pipeline: AceStepPipeline, prompt: Prompt, duration: float) -> Float[Tensor, "token width"]:
    """The packed condition `AceStepPipeline.__call__` gives its transformer for this prompt and duration.

    fp32 on the CPU, valid rows only; `duration` is in seconds.
    """
    device, dtype = pipeline.condition_encoder.device, pipeline.condition_encoder.dtype
    text, text_mask, lyrics, lyrics_mask = pipeline.encode_prompt(
        prompt=prompt.caption,
        lyrics=prompt.lyrics,
        device=device,
        vocal_language=prompt.language,
        audio_duration=duration,
        instruction=pipeline._get_task_instruction(task_type=TASK),
        bpm=prompt.bpm,
        keyscale=prompt.keyscale,
        timesignature=prompt.timesignature,
    )
    reference = pipeline.condition_encoder.silence_latent[:, : math.ceil(TIMBRE_SECONDS * pipeline.latents_per_second)]
    packed, mask = pipeline.condition_encoder(
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
