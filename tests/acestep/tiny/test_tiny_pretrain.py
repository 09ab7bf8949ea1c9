"""The script that makes the tiny base, on a handful of songs and steps."""

import math
from pathlib import Path

import pytest
import torch
from diffusers import AceStepPipeline

from acetrain.acestep.tiny import architecture, autoencoder
from acetrain.acestep.tiny.average import Average
from acetrain.acestep.tiny.denoiser import Denoiser, Latents, encode
from acetrain.acestep.tiny.pretrain import Recipe, pretrain, save
from acetrain.acestep.tiny.songs import FRAME, SEEN, UNSEEN, Example, examples

SMALL = Recipe(
    songs=2,
    shortest=4,
    longest=4.5,
    autoencoder_songs=1,
    autoencoder_steps=2,
    autoencoder_batch=1,
    flow_steps=2,
    flow_batch=2,
)


@pytest.fixture(scope="module")
def song() -> Example:
    return next(examples(0, "held-out", "piano", 1, 4, 4))


def weights(pipeline: AceStepPipeline) -> dict[str, torch.Tensor]:
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": tensor for name, part in modules.items() for key, tensor in part.state_dict().items()}


def test_the_same_recipe_gives_the_same_bits(tmp_path: Path):
    first, second = pretrain(SMALL), pretrain(SMALL)
    one, two = weights(first), weights(second)
    assert all(torch.equal(one[key], two[key]) for key in one)
    save(first, tmp_path)
    loaded = weights(AceStepPipeline.from_pretrained(tmp_path, dtype=torch.float32))
    assert all(torch.equal(loaded[key], two[key].half().float()) for key in two)


def test_the_unseen_style_is_not_among_the_songs():
    assert UNSEEN not in SEEN
    assert {song.song.style for style in SEEN for song in examples(0, "train", style, 1, 4, 4)} == set(SEEN)


def test_standardizing_changes_the_latents_scale_and_not_what_they_decode_to(song: Example):
    vae = architecture.build(1).vae
    autoencoder.initialize(vae, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = vae.decode(vae.encode(song.audio[None]).latent_dist.mode()).sample
        autoencoder.standardize(vae, [song.audio])
        latents = vae.encode(song.audio[None]).latent_dist.mode()
        after = vae.decode(latents).sample
    assert latents.std(-1).allclose(torch.ones(1, architecture.LATENTS), atol=1e-3)
    assert latents.mean(-1).allclose(torch.zeros(1, architecture.LATENTS), atol=1e-3)
    inside = slice(12 * FRAME, -12 * FRAME)
    torch.testing.assert_close(after[..., inside], before[..., inside], atol=1e-4, rtol=1e-3)


def test_metrics_know_a_perfect_copy_from_a_changed_one(song: Example):
    audio = song.audio.unsqueeze(0)
    assert autoencoder.log_spectral_distance(audio, audio).item() == 0
    assert autoencoder.log_spectral_distance(audio, 0.5 * audio).item() > 0.05
    noisy = song.audio + 0.1 * song.audio.std() * torch.randn(
        song.audio.shape, generator=torch.Generator().manual_seed(0)
    )
    assert autoencoder.scale_invariant_ratio(3 * noisy, song.audio) == pytest.approx(20, abs=0.2)


def test_conditions_in_a_batch_are_the_pipelines_own(song: Example):
    pipeline = architecture.build(0)
    pipeline.condition_encoder.silence_latent.normal_(generator=torch.Generator().manual_seed(0))
    other = next(examples(0, "held-out", "synthwave", 1, 9, 9))
    songs = [encode(pipeline, song), encode(pipeline, other)]
    with torch.no_grad():
        batched = Denoiser(pipeline).conditions(songs, [False, False])
        for latents, condition in zip(songs, batched, strict=True):
            torch.testing.assert_close(condition, _upstream(pipeline, latents), atol=1e-5, rtol=1e-4)


def test_the_average_follows_and_replaces_the_parameters():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = Average(layer, 0.5)
    torch.nn.init.ones_(layer.weight)
    average.update()
    average.apply()
    assert layer.weight.item() == pytest.approx(10 / 11)


def _upstream(pipeline: AceStepPipeline, latents: Latents) -> torch.Tensor:
    song = latents.song
    encoded = pipeline.encode_prompt(
        prompt=song.caption,
        lyrics=song.lyrics,
        device=torch.device("cpu"),
        vocal_language=song.language,
        audio_duration=latents.seconds,
        bpm=song.bpm,
        keyscale=song.keyscale,
        timesignature=song.timesignature,
    )
    reference = pipeline.condition_encoder.silence_latent[:, : math.ceil(30 * pipeline.latents_per_second)]
    return pipeline.condition_encoder(*encoded, reference, torch.zeros(1, dtype=torch.long))[0][0]
