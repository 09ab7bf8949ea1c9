"""Pretraining of the tiny autoencoder: spectra and waveform, a light KL, latents of unit variance."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from diffusers import AutoencoderOobleck
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.tiny.average import Average
from acetrain.acestep.tiny.songs import FRAME

_WINDOWS = (2048, 1024, 512, 256, 128)
_FLOOR = 1e-3
"""Added to magnitudes under the logarithm: what lies 60 dB below full scale hardly counts."""
_KL = 1e-3
_SPAN = 52
"""Frames of a training excerpt."""
_PERIOD = 4
"""Frames after which everything held in a song repeats: excerpts start on a multiple, as songs do."""


def train(
    vae: AutoencoderOobleck, audio: Sequence[Float[Tensor, "2 _"]], steps: int, batch: int, seed: int
) -> Iterator[float]:
    """Train in place on random excerpts, yielding each step's loss; the averaged weights are in place at the end.

    The latents have zero mean and unit variance when it begins and when it ends.
    """
    draws = torch.Generator().manual_seed(seed)
    initialize(vae, draws)
    standardize(vae, audio[:64])

    def loss() -> Tensor:
        excerpts = _excerpts(audio, batch, draws)
        encoded = posterior(vae, excerpts)
        decoded = decode(vae, encoded.sample(draws))
        wave, spectral = _distances(decoded, excerpts)
        return wave + 0.1 * spectral + _KL * encoded.kl() / encoded.mean.shape[1]

    yield from _descend(vae, loss, steps, 2e-3)
    standardize(vae, audio[:64])


def _descend(module: torch.nn.Module, loss: Callable[[], Tensor], steps: int, peak: float) -> Iterator[float]:
    """AdamW under a short rise and a cosine; the average of the last weights is in place at the end."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=peak, betas=(0.8, 0.99), weight_decay=1e-4)
    average = Average(module, 0.995)
    module.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * _rate(step, steps)
        value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average.update()
        yield value.item()
    average.apply()
    module.eval()


def posterior(vae: AutoencoderOobleck, audio: Float[Tensor, "song 2 sample"]) -> OobleckDiagonalGaussianDistribution:
    """The distribution of the audio's latents, [song, channel, frame]."""
    encoded = vae.encode(audio, return_dict=False)
    assert isinstance(encoded, tuple)
    return encoded[0]


def decode(vae: AutoencoderOobleck, latents: Float[Tensor, "song channel frame"]) -> Float[Tensor, "song 2 sample"]:
    """The audio of latents."""
    return vae.decode(cast("torch.FloatTensor", latents), return_dict=False)[0]


def log_spectral_distance(a: Float[Tensor, "song 2 sample"], b: Float[Tensor, "song 2 sample"]) -> Tensor:
    """Mean absolute difference of natural-log magnitudes of mid and side, over five window lengths."""
    return torch.stack([(x.log() - y.log()).abs().mean() for x, y in _spectra(a, b)]).mean()


def scale_invariant_ratio(estimate: Float[Tensor, "2 sample"], truth: Float[Tensor, "2 sample"]) -> float:
    """SI-SDR in dB (Le Roux et al., 2019), both channels as one signal."""
    scaled = (estimate * truth).sum() / truth.square().sum() * truth
    return float(10 * torch.log10(scaled.square().sum() / (estimate - scaled).square().sum()))


@torch.no_grad()
def initialize(vae: AutoencoderOobleck, draws: torch.Generator) -> None:
    """Weights that pass a signal on at its level: with the framework's own, it dies out over the upsampling layers.

    Residual branches start small, the posterior narrow, and the ends are scaled for music of about 0.15 rms.
    """
    for name, layer in vae.named_modules():
        if not isinstance(layer, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            continue
        taps = 2 if isinstance(layer, torch.nn.ConvTranspose1d) else layer.kernel_size[0]
        scale = (layer.in_channels * taps) ** -0.5
        scale *= {"encoder.conv1": 6.0, "decoder.conv2": 0.1}.get(name, 1.0)
        if "res_unit" in name and name.endswith("conv2"):
            scale *= 0.2
        shape = layer.get_parameter("weight_v").shape
        _set_weight(layer, scale * torch.randn(shape, generator=draws))
        if layer.bias is not None:
            layer.bias.zero_()
    last = vae.encoder.conv2
    channels = last.out_channels // 2
    weight = _weight(last)
    weight[channels:] *= 0.1
    _set_weight(last, weight)
    last.get_parameter("bias")[channels:] = -2.5


@torch.no_grad()
def standardize(vae: AutoencoderOobleck, audio: Sequence[Float[Tensor, "2 _"]]) -> None:
    """Fold the latents' mean and spread into the convolutions on both sides: the DiT takes latents as they come."""
    means = torch.cat([posterior(vae, song.unsqueeze(0)).mean[0] for song in audio], dim=-1)
    mean, spread = means.mean(-1), means.std(-1)
    last, first = vae.encoder.conv2, vae.decoder.conv1
    channels = len(mean)
    weight, bias = _weight(last), last.get_parameter("bias")
    weight[:channels] /= spread.view(-1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / spread
    bias[channels:] -= spread.log()
    _set_weight(last, weight)
    weight = _weight(first)
    first.get_parameter("bias").add_((weight * mean.view(1, -1, 1)).sum((1, 2)))
    _set_weight(first, weight * spread.view(1, -1, 1))


@torch.no_grad()
def silence(vae: AutoencoderOobleck, frames: int) -> Float[Tensor, "1 frame channel"]:
    """Latents of silence: the steady state between the edges, for any length without a seam."""
    latents = posterior(vae, torch.zeros(1, 2, 64 * FRAME)).mode()
    return latents[:, :, 32].unsqueeze(1).expand(-1, frames, -1).contiguous()


def _distances(got: Float[Tensor, "song 2 sample"], wanted: Float[Tensor, "song 2 sample"]) -> tuple[Tensor, Tensor]:
    """Relative distance of the waveforms; log-magnitude distance plus spectral convergence, over the windows."""
    energy = wanted.square().sum((1, 2)) + 1e-4 * wanted[0].numel()
    wave = ((got - wanted).square().sum((1, 2)) / energy).sqrt().mean()
    spectral = torch.zeros(())
    for a, b in _spectra(got, wanted):
        convergence = (a - b).square().sum().sqrt() / b.square().sum().sqrt()
        spectral = spectral + ((a.log() - b.log()).abs().mean() + convergence) / len(_WINDOWS)
    return wave, spectral


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
    audio: Sequence[Float[Tensor, "2 _"]], batch: int, draws: torch.Generator
) -> Float[Tensor, "song 2 sample"]:
    """Random excerpts of random songs, up to 6 dB softer."""
    chosen = []
    for _ in range(batch):
        song = audio[_below(len(audio), draws)]
        start = _PERIOD * FRAME * _below((song.shape[1] // FRAME - _SPAN) // _PERIOD + 1, draws)
        excerpt = song[:, start : start + _SPAN * FRAME]
        chosen.append(excerpt * 0.5 ** torch.rand((), generator=draws))
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
