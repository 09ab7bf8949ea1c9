"""What preprocessing gives, by the models of one pipeline."""

from diffusers import AceStepPipeline
from fabricate import FRAME_RATE
from torch import Tensor

from acetrain.acestep import conditions
from acetrain.data.prompt import Prompt


def encode_condition(pipeline: AceStepPipeline, prompt: Prompt, duration: float) -> Tensor:
    """The condition of a prompt, [token, width]."""
    states = conditions.encode_prompt(pipeline, prompt, duration)
    return conditions.encode_condition(pipeline.condition_encoder, states, FRAME_RATE)
