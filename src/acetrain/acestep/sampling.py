"""Music from a prompt, by upstream's own pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acetrain.data.prompt import Prompt
from acetrain.keyed import seed_of

if TYPE_CHECKING:
    from diffusers import AceStepPipeline
    from jaxtyping import Float32
    from numpy import ndarray


@dataclass(frozen=True)
class Sampling:
    """How noise becomes music."""

    duration: float | None
    """Seconds; None for the source's length."""
    seed: int
    """Seed of the noise, drawn by torch's CPU generator."""
    steps: int
    """Euler steps from noise to data."""
    shift: float
    """Shift of the schedule."""
    guidance: float
    """Strength of classifier-free guidance; 1 is none."""


def sample(
    pipeline: "AceStepPipeline",
    prompt: Prompt,
    sampling: Sampling,
    task: Mapping[str, Any],
    source: "Float32[ndarray, '2 sample'] | None",
    reference: "Float32[ndarray, '2 sample'] | None",
    advance: Callable[[], None],
) -> "Float32[ndarray, '2 sample']":
    """What `AceStepPipeline.__call__` gives for a task, its peak at -1 dB; `advance` is called after every step.

    `source` and `reference` are at the pipeline's rate. Long latents are encoded and decoded in tiles.
    """
    import torch

    def count(*_: object) -> dict[str, object]:
        advance()
        return {}

    pipeline.vae.enable_tiling()
    device = pipeline.transformer.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # upstream draws the posteriors of source and reference from the global generator
        torch.manual_seed(seed_of(sampling.seed, "heard"))
        result = pipeline(
            prompt=prompt.caption,
            lyrics=prompt.lyrics,
            audio_duration=sampling.duration,  # pyright: ignore[reportArgumentType]  (None is the source's length)
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
            src_audio=None if source is None else torch.from_numpy(source),
            reference_audio=None if reference is None else torch.from_numpy(reference),
            **task,
        )
    return result[0][0]
