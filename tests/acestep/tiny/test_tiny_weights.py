"""The weights that ship: small, whole, and what the README beside them says."""

import numpy as np
import pytest
import torch
from diffusers import AceStepPipeline

from acetrain.acestep.model import EMBEDDED
from acetrain.acestep.tiny import architecture
from acetrain.acestep.tiny.autoencoder import posterior
from acetrain.acestep.tiny.denoiser import Denoiser, encode
from acetrain.acestep.tiny.measure import reconstruction
from acetrain.acestep.tiny.songs import FRAME, FRAME_RATE, SEEN, examples
from acetrain.data.synthesis.names import NAMES

LIMIT = 4_000_000
WORST_RATIO = {"chiptune": 5.0, "piano": 5.0, "synthwave": 4.0, "ambient": 6.0, "marimba": -1.0}
"""Least SI-SDR in dB, by style."""
WORST_DISTANCE = 0.5
"""Most log-spectral distance."""


@pytest.fixture(scope="module")
def pipeline() -> AceStepPipeline:
    pipeline = AceStepPipeline.from_pretrained(EMBEDDED, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_all_files_together_are_small():
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) <= LIMIT


def test_every_component_is_there_and_of_the_shape_that_build_gives(pipeline: AceStepPipeline):
    fresh = architecture.build(0)
    assert set(pipeline.components) == set(fresh.components)
    for name, component in fresh.components.items():
        loaded = getattr(pipeline, name)
        assert type(loaded).__name__ in (type(component).__name__, "TokenizersBackend")
        if isinstance(component, torch.nn.Module):
            shapes = {key: tensor.shape for key, tensor in component.state_dict().items()}
            assert {key: tensor.shape for key, tensor in loaded.state_dict().items()} == shapes
            assert all(tensor.isfinite().all() for tensor in loaded.state_dict().values())


@pytest.mark.parametrize("text", ["a calm piano", "잔잔한 피아노", "C♯ minor, 5/4 \u0007"])
def test_any_text_has_tokens_and_comes_back(pipeline: AceStepPipeline, text: str):
    tokens = pipeline.tokenizer(text).input_ids
    assert max(tokens) < architecture.VOCABULARY
    assert pipeline.tokenizer.decode(tokens) == text


def test_frames_come_at_the_stated_rate(pipeline: AceStepPipeline):
    assert pipeline.latents_per_second == FRAME_RATE == 50
    assert not pipeline.is_turbo


def test_silence_is_what_the_autoencoder_makes_of_it(pipeline: AceStepPipeline):
    silence = pipeline.condition_encoder.silence_latent
    with torch.no_grad():
        encoded = posterior(pipeline.vae, torch.zeros(1, 2, 100 * FRAME)).mode().transpose(1, 2)
    assert silence.shape == (1, 15000, architecture.LATENTS)
    torch.testing.assert_close(silence[:, 30:70], encoded[:, 30:70], atol=0.02, rtol=0.02)


def test_latents_have_unit_variance(pipeline: AceStepPipeline):
    latents = torch.cat(
        [encode(pipeline, song).mean for style in SEEN for song in examples(0, "held-out", style, 2, 4, 8)]
    )
    assert 0.7 < float(latents.std()) < 1.3
    assert abs(float(latents.mean())) < 0.25


@pytest.mark.parametrize("style", NAMES)
def test_reconstruction_is_as_good_as_stated(pipeline: AceStepPipeline, style: str):
    ratio, distance = reconstruction(pipeline.vae, list(examples(0, "held-out", style, 2, 4, 8)))
    assert ratio > WORST_RATIO[style]
    assert distance < WORST_DISTANCE


def test_the_prompt_matters(pipeline: AceStepPipeline):
    """A song is denoised better under its own prompt than under another style's."""
    denoiser = Denoiser(pipeline)
    own, other = [], []
    for style, wrong in zip(SEEN, SEEN[1:] + SEEN[:1], strict=True):
        song = encode(pipeline, next(examples(0, "held-out", style, 1, 4, 8)))
        stranger = encode(pipeline, next(examples(0, "held-out", wrong, 1, 4, 8)))
        own.append(_loss(denoiser, song, song))
        other.append(_loss(denoiser, song, stranger))
    assert np.mean(own) < np.mean(other)


@torch.no_grad()
def _loss(denoiser: Denoiser, song, prompted_as) -> float:
    draws = torch.Generator().manual_seed(0)
    condition = denoiser.conditions([prompted_as], [False]) * 4
    noise = [torch.randn(song.mean.shape, generator=draws) for _ in range(4)]
    times = torch.tensor([0.5, 0.6, 0.7, 0.8])
    return denoiser.losses([song.mean] * 4, noise, times, condition).mean().item()
