"""What chance decides about a song in a step: its time, its noise, and whether its condition is dropped."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acetrain.data.batch import Batch
from acetrain.flow.timesteps import Timesteps
from acetrain.keyed import generator


@dataclass
class Draws:
    """Draws of a batch, on its device, in fp32."""

    t: Float[Tensor, " song"]
    noise: Float[Tensor, "song frame channel"]
    dropped: Bool[Tensor, " song"]


def draw(batch: Batch, timesteps: Timesteps, condition_dropout: float) -> Draws:
    """The draws of each song from its own key, so that no batch, split, rank or restart changes them."""
    channels = batch.latents.shape[2]
    u = torch.stack([torch.rand((), generator=generator(*key, "t"), dtype=torch.float64) for key in batch.keys])
    noise = [
        torch.randn(frames, channels, generator=generator(*key, "noise"))
        for key, frames in zip(batch.keys, batch.frames, strict=True)
    ]
    chance = torch.stack([torch.rand((), generator=generator(*key, "condition")) for key in batch.keys])
    device = batch.latents.device
    return Draws(
        timesteps.quantile(u).float().to(device),
        pad_sequence(noise, batch_first=True).to(device),
        (chance < condition_dropout).to(device),
    )
