"""Pretraining of the tiny autoencoder: spectra and waveform, a light KL, latents of unit variance."""

import math
from collections.abc import Iterator, Sequence

import torch
from diffusers import AutoencoderOobleck
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.tiny.average import Average
from acetrain.acestep.tiny.songs import FRAME

_WINDOWS = (2048, 1024, 512, 256, 128)
_FLOOR = 1e-3
"""Added to magnitudes under the logarithm: what lies 60 dB below full scale hardly counts."""
_KL = 0.003
_SPAN = 16
"""Frames of a training excerpt."""


def train(
    vae: AutoencoderOobleck, audio: Sequence[Float[Tensor, "2 sample"]], steps: int, batch: int, seed: int
) -> Iterator[float]:
    """Train in place on random excerpts, yielding each step's loss; the averaged weights are in place at the end.

    After three quarters of the steps, and again at the end, the latents are brought to zero mean and unit variance.
    """
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.8, 0.99), weight_decay=1e-4)
    average = Average(vae, 0.995)
    vae.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * _rate(step, steps)
        loss = _loss(vae, _excerpts(audio, batch, draws), draws)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update()
        if step + 1 == 3 * steps // 4:
            standardize(vae, audio[:64])
            average = Average(vae, 0.995)
        yield loss.item()
    average.apply()
    standardize(vae, audio[:64])
    vae.eval()


def log_spectral_distance(a: Float[Tensor, "song 2 sample"], b: Float[Tensor, "song 2 sample"]) -> Tensor:
    """Mean absolute difference of natural-log magnitudes of mid and side, over five window lengths."""
    return torch.stack([(x.log() - y.log()).abs().mean() for x, y in _spectra(a, b)]).mean()


def scale_invariant_ratio(estimate: Float[Tensor, "2 sample"], truth: Float[Tensor, "2 sample"]) -> float:
    """SI-SDR in dB (Le Roux et al., 2019), both channels as one signal."""
    scaled = (estimate * truth).sum() / truth.square().sum() * truth
    return float(10 * torch.log10(scaled.square().sum() / (estimate - scaled).square().sum()))


@torch.no_grad()
def standardize(vae: AutoencoderOobleck, audio: Sequence[Float[Tensor, "2 sample"]]) -> None:
    """Fold the latents' mean and spread into the convolutions on both sides: the DiT takes latents as they come."""
    means = torch.cat([vae.encode(song.unsqueeze(0)).latent_dist.mean[0] for song in audio], dim=-1)
    mean, spread = means.mean(-1), means.std(-1)
    last, first = vae.encoder.conv2, vae.decoder.conv1
    channels = len(mean)
    weight, bias = _weight(last), last.bias
    weight[:channels] /= spread.view(-1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / spread
    bias[channels:] -= spread.log()
    _set_weight(last, weight)
    weight = _weight(first)
    first.bias += (weight * mean.view(1, -1, 1)).sum((1, 2))
    _set_weight(first, weight * spread.view(1, -1, 1))


@torch.no_grad()
def silence(vae: AutoencoderOobleck, frames: int) -> Float[Tensor, "1 frame channel"]:
    """Latents of silence: the steady state between the edges, for any length without a seam."""
    latents = vae.encode(torch.zeros(1, 2, 64 * FRAME)).latent_dist.mode()
    return latents[:, :, 32].unsqueeze(1).expand(-1, frames, -1).contiguous()


def _loss(vae: AutoencoderOobleck, audio: Float[Tensor, "song 2 sample"], draws: torch.Generator) -> Tensor:
    posterior = vae.encode(audio).latent_dist
    decoded = vae.decode(posterior.sample(draws)).sample
    energy = audio.square().sum((1, 2)) + 1e-4 * audio[0].numel()
    wave = ((decoded - audio).square().sum((1, 2)) / energy).sqrt().mean()
    spectral = torch.zeros(())
    for got, wanted in _spectra(decoded, audio):
        distance = (got.log() - wanted.log()).abs().mean()
        convergence = (got - wanted).square().sum().sqrt() / wanted.square().sum().sqrt()
        spectral = spectral + (distance + convergence) / len(_WINDOWS)
    return wave + spectral + _KL * posterior.kl() / posterior.mean.shape[1]


def _spectra(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Floored magnitude spectra of two stereo batches as mid and side, one pair for each window length."""
    both = torch.cat([a, b])
    signal = torch.cat([both[:, 0] + both[:, 1], both[:, 0] - both[:, 1]]) / 2
    for window in _WINDOWS:
        hann = torch.hann_window(window)
        spectrum = torch.stft(signal, window, window // 4, window=hann, return_complex=True)
        magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-12).sqrt() * (2 / hann.sum()) + _FLOOR
        halves = magnitude.view(2, 2, len(a), *magnitude.shape[1:])
        yield halves[:, 0], halves[:, 1]


def _excerpts(
    audio: Sequence[Float[Tensor, "2 sample"]], batch: int, draws: torch.Generator
) -> Float[Tensor, "song 2 sample"]:
    """Random excerpts of random songs, at random level, half of them with their sides swapped."""
    chosen = []
    for _ in range(batch):
        song = audio[_below(len(audio), draws)]
        start = _below(song.shape[1] - _SPAN * FRAME + 1, draws)
        excerpt = song[:, start : start + _SPAN * FRAME]
        level = 0.3 ** torch.rand((), generator=draws).item()
        chosen.append(level * (excerpt.flip(0) if _below(2, draws) else excerpt))
    return torch.stack(chosen)


def _below(bound: int, draws: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=draws))


def _rate(step: int, steps: int) -> float:
    """A short rise, then half a cosine down to nearly nothing."""
    return min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _weight(layer: torch.nn.Module) -> Tensor:
    """A copy of the weight that a weight-normalised layer computes with."""
    direction, length = layer.get_parameter("weight_v"), layer.get_parameter("weight_g")
    return length * direction / direction.norm(dim=(1, 2), keepdim=True)


def _set_weight(layer: torch.nn.Module, weight: Tensor) -> None:
    layer.get_parameter("weight_v").copy_(weight)
    layer.get_parameter("weight_g").copy_(weight.norm(dim=(1, 2), keepdim=True))
