"""Prompts encoded beforehand, and upstream's pipeline on them: what encodes prompts need not stay in memory."""

import gc
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AceStepPipeline, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from jaxtyping import Bool, Float
from torch import Tensor, nn

from acetrain.acestep.conditions import PromptStates, encode_condition, encode_prompt, load_text_pipeline, overlong
from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import load_condition_encoder
from acetrain.acestep.model import Model
from acetrain.data.prompt import Prompt


class Known(nn.Module):
    """Stands in for the condition encoder where there is one prompt: its condition, and the encoder's constants."""

    condition: Tensor
    silence_latent: Tensor
    null_condition_emb: Tensor

    def __init__(
        self,
        condition: Float[Tensor, "1 token width"],
        silence: Float[Tensor, "1 frame channel"],
        null: Float[Tensor, "1 1 width"],
    ) -> None:
        super().__init__()
        self.register_buffer("condition", condition)
        self.register_buffer("silence_latent", silence)
        self.register_buffer("null_condition_emb", null)

    @property
    def device(self) -> torch.device:
        """Where it is; upstream asks any of a pipeline's parts."""
        return self.condition.device

    def forward(self, **states: object) -> tuple[Float[Tensor, "1 token width"], Bool[Tensor, "1 token"]]:
        """The condition, whatever was to be encoded, and that all its rows are valid."""
        return self.condition, torch.ones(self.condition.shape[:2], dtype=torch.bool, device=self.condition.device)


class EncodedPipeline(AceStepPipeline):
    """Upstream's pipeline for the one prompt its stand-in of a condition encoder knows."""

    def encode_prompt(self, *args: object, **kwargs: object) -> Any:
        """Nothing: there is no text encoder, and the stand-in does not ask for states."""
        return None, None, None, None


def pipeline_of(dit: MaskedDiT, vae: AutoencoderOobleck, known: Known) -> EncodedPipeline:
    """A pipeline over parts that are there, without progress bars of its own; they stay as and where they are."""
    absent: Any = None
    pipeline = EncodedPipeline(
        vae=vae,
        text_encoder=absent,
        tokenizer=absent,
        transformer=dit,
        condition_encoder=known,  # pyright: ignore[reportArgumentType]  (all that upstream asks of one)
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(
    model: Model, prompts: Sequence[tuple[Prompt, float]], frame_rate: float, dtype: torch.dtype, device: torch.device
) -> tuple[list[Known], list[str]]:
    """Prompts with their durations in seconds as the pipeline would encode them, on the CPU; which are cut off.

    The text encoder and then the condition encoder are loaded, used and let go. `frame_rate` is in latent frames a
    second.
    """
    texts = load_text_pipeline(model, dtype, device)
    states = [encode_prompt(texts, prompt, seconds) for prompt, seconds in prompts]
    cut = [line for prompt, seconds in prompts for line in overlong(texts, prompt, seconds)]
    del texts
    _let_go(device)
    encoder = load_condition_encoder(model, dtype, device)
    constants = encoder.silence_latent.cpu(), encoder.null_condition_emb.detach().cpu()
    conditions = [encode_condition(encoder, PromptStates(*state), frame_rate)[None].to(dtype) for state in states]
    del encoder
    _let_go(device)
    return [Known(condition, *constants) for condition in conditions], cut


def _let_go(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
