"""What chance decides about a song in a step: its time, its noise, and whether its condition is dropped."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acetrain.data.batch import Batch
from acetrain.flow.importance import Running, nothing_yet
from acetrain.flow.timesteps import Timesteps
from acetrain.keyed import Key, generator, seed_of

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: the Kronecker sequence of lowest discrepancy, in whole numbers, exact at any place."""


@dataclass
class Draws:
    """Draws of a batch, on its device, in fp32."""

    t: Float[Tensor, " song"]
    noise: Float[Tensor, "song frame channel"]
    dropped: Bool[Tensor, " song"]
    weights: Float[Tensor, " song"]
    """What each song's loss is multiplied by for having been drawn oftener or less often than the density says."""
    bins: Int64[Tensor, " song"]
    """The bin of running losses each time lies in; on the CPU."""


def draw(batch: Batch, timesteps: Timesteps, condition_dropout: float, running: Running | None = None) -> Draws:
    """The draws of each song from its own key, so that no batch, split, rank or restart changes them.

    `running` are the losses a density follows, the same for all songs of a step; none yet where it is None.
    """
    channels = batch.latents.shape[2]
    noise = [
        torch.randn(frames, channels, generator=generator(*key, "noise"))
        for key, frames in zip(batch.keys, batch.frames, strict=True)
    ]
    chance = torch.stack([torch.rand((), generator=generator(*key, "condition")) for key in batch.keys])
    running = nothing_yet(timesteps.followed_bins) if running is None else running
    u, weights, bins = timesteps.aimed(shares(batch, timesteps.stratified), running)
    device = batch.latents.device
    return Draws(
        timesteps.quantile(u).float().to(device),
        pad_sequence(noise, batch_first=True).to(device),
        (chance < condition_dropout).to(device),
        weights.float().to(device),
        bins,
    )


def fixed(batch: Batch, t: float, *purpose: Key) -> Draws:
    """The draws of all songs at time `t`: noise by each song's key and `purpose`, no condition dropped."""
    noise = torch.zeros_like(batch.latents)
    for row, (key, frames) in enumerate(zip(batch.keys, batch.frames, strict=True)):
        drawn = torch.randn(frames, noise.shape[2], generator=generator(*key, *purpose))
        noise[row, :frames] = drawn.to(noise)
    songs, device = len(batch.frames), noise.device
    return Draws(
        torch.full((songs,), t, device=device),
        noise,
        torch.zeros(songs, dtype=torch.bool, device=device),
        torch.ones(songs, device=device),
        torch.zeros(songs, dtype=torch.long),
    )


def shares(batch: Batch, stratified: bool) -> Float64[Tensor, " song"]:
    """Where in the density each song's time is drawn, uniform in [0, 1).

    Stratified, the song at place n gets frac(offset + n / golden ratio), the offset drawn from the seed: any stretch of
    the run covers [0, 1) evenly, and a place's share is the same in every batch, on every rank, after every restart.
    """
    if not stratified:
        return torch.stack([torch.rand((), generator=generator(*key, "t"), dtype=torch.float64) for key in batch.keys])
    offsets = [2 * seed_of(key[0], "stratified") for key in batch.keys]
    turns = [(offset + place * GOLDEN) % 2**64 for offset, place in zip(offsets, batch.places, strict=True)]
    return torch.tensor([(turn >> 11) / 2**53 for turn in turns], dtype=torch.float64)
