"""How the official XL code pools the timbre: over a learned token before the reference, instead of its first frame."""

import torch
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepTimbreEncoder
from jaxtyping import Float
from torch import Tensor, nn


class _Preceded(nn.Module):
    """An embedding of frames with a learned token put before them."""

    def __init__(self, embed: nn.Module, token: Float[Tensor, "1 1 width"]) -> None:
        super().__init__()
        self.embed = embed
        self.register_buffer("token", token, persistent=False)

    def forward(self, frames: Float[Tensor, "reference frame channel"]) -> Float[Tensor, "reference row width"]:
        embedded = self.embed(frames)
        return torch.cat([self.get_buffer("token").expand(len(embedded), -1, -1), embedded], dim=1)


def pool_token(encoder: AceStepTimbreEncoder) -> None:
    """Make `encoder` pool its `special_token` (upstream XL `AceStepTimbreEncoder.forward`).

    The first row of its output is what is pooled; it is the token's once that comes first.
    """
    encoder.register_module("embed_tokens", _Preceded(encoder.embed_tokens, encoder.special_token.detach()))
