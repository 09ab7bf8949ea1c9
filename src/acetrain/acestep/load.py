"""A checkpoint from disk: the frozen base that training needs, or the whole pipeline."""

from dataclasses import dataclass

import diffusers
import torch
import transformers
from diffusers import AceStepConditionEncoder, AceStepPipeline
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.model import Model


@dataclass
class Base:
    """What training needs of a checkpoint: the frozen DiT and two constants of its condition encoder."""

    dit: MaskedDiT
    null_condition: Float[Tensor, " width"]
    """Stands for every condition row of a song whose condition is dropped."""
    silence: Float[Tensor, "frame channel"]
    """Latents of silence, the source latents of text-to-music."""


def load_base(model: Model, dtype: torch.dtype) -> Base:
    """The frozen DiT in `dtype` on the CPU, with the null condition and the silence latent in fp32."""
    without_loading_bars()
    folder = model.folder()
    dit = MaskedDiT.from_pretrained(folder, subfolder="transformer", dtype=dtype)
    encoder = AceStepConditionEncoder.from_pretrained(folder, subfolder="condition_encoder", dtype=torch.float32)
    dit.requires_grad_(False).eval()
    return Base(dit, encoder.null_condition_emb.detach().flatten().clone(), encoder.silence_latent[0].clone())


def without_loading_bars() -> None:
    """No bar for each component of a checkpoint: the jobs have their own progress."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def load_pipeline(model: Model, dtype: torch.dtype, device: torch.device | str) -> AceStepPipeline:
    """The whole inference pipeline in `dtype` on `device`, without progress bars of its own."""
    without_loading_bars()
    pipeline = AceStepPipeline.from_pretrained(model.folder(), dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def text_to_music_context(silence: Float[Tensor, "row channel"], frames: int) -> Float[Tensor, "frame context"]:
    """Context latents of text-to-music: silence, repeated when short, beside a chunk mask of ones (upstream
    `prepare_src_latents` and `_build_chunk_mask`)."""
    source = silence.repeat(-(-frames // len(silence)), 1)[:frames]
    return torch.cat([source, torch.ones_like(source)], dim=-1)
