"""Music from a prompt, by upstream's own pipeline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.data.prompt import Prompt

if TYPE_CHECKING:
    from diffusers import AceStepPipeline
    from jaxtyping import Float32
    from numpy import ndarray


@dataclass(frozen=True)
class Sampling:
    """How noise becomes music."""

    duration: float
    """Seconds."""
    seed: int
    """Seed of the noise, drawn by torch's CPU generator."""
    steps: int
    """Euler steps from noise to data."""
    shift: float
    """Shift of the schedule."""
    guidance: float
    """Strength of classifier-free guidance; 1 is none."""


def sample(
    pipeline: "AceStepPipeline", prompt: Prompt, sampling: Sampling, advance: Callable[[], None]
) -> "Float32[ndarray, '2 sample']":
    """What `AceStepPipeline.__call__` gives for text-to-music, its peak at -1 dB; `advance` is called after every step.

    Long latents are decoded in tiles.
    """
    import torch

    def count(*_: object) -> dict[str, object]:
        advance()
        return {}

    pipeline.vae.enable_tiling()
    result = pipeline(
        prompt=prompt.caption,
        lyrics=prompt.lyrics,
        audio_duration=sampling.duration,
        vocal_language=prompt.language,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        shift=sampling.shift,
        generator=torch.Generator().manual_seed(sampling.seed),
        output_type="np",
        callback_on_step_end=count,
        bpm=prompt.bpm,
        keyscale=prompt.keyscale,
        timesignature=prompt.timesignature,
        return_dict=False,
    )
    return result[0][0]
