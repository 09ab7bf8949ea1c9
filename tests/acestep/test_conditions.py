"""Law 5: what is cached is what the pipeline computes at inference. And latents that tiles do not change."""

from typing import Any

import pytest
import torch
from encoded import encode_condition
from fabricate import FRAME, FRAME_RATE

from acetrain.acestep import conditions
from acetrain.acestep.conditions import encode_latents, encode_prompt, load_text_pipeline, overlong, template_digest
from acetrain.acestep.load import load_condition_encoder, load_pipeline
from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.keyed import generator

PROMPTS = [
    (Prompt("a calm piano", INSTRUMENTAL, None, "", "", "en"), 4.0),
    (Prompt("빠른 노래, {braces}", "[verse]\n바다, 바다\n[chorus]\n파도", 97, "F# minor", "3", "ko"), 7.96),
    (Prompt("long " * 300, "la " * 1500, 120, "Bb major", "6", "unknown"), 239.96),
]


def fed_to_transformer(pipeline: Any, prompt: Prompt, duration: float) -> torch.Tensor:
    """The condition that the pipeline's own call hands its transformer."""
    seen: list[torch.Tensor] = []

    def keep(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.append(kwargs["encoder_hidden_states"])
        raise InterruptedError

    handle = pipeline.transformer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        pipeline(
            prompt=prompt.caption,
            lyrics=prompt.lyrics,
            vocal_language=prompt.language,
            audio_duration=duration,
            bpm=prompt.bpm,
            keyscale=prompt.keyscale,
            timesignature=prompt.timesignature,
            num_inference_steps=1,
            guidance_scale=1.0,
            output_type="latent",
        )
    except InterruptedError:
        pass
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("prompt", "duration"), PROMPTS, ids=["bare", "full", "overlong"])
def test_conditions_are_those_of_inference_to_the_bit(
    tiny, prompt: Prompt, duration: float, dtype: torch.dtype
) -> None:
    expected = fed_to_transformer(load_pipeline(tiny, dtype, "cpu"), prompt, duration)
    states = encode_prompt(load_text_pipeline(tiny, dtype, torch.device("cpu")), prompt, duration)
    condition = conditions.encode_condition(load_condition_encoder(tiny, dtype, "cpu"), states, FRAME_RATE)
    assert condition.dtype == torch.float32 and expected.dtype == dtype
    assert torch.equal(condition, expected[0].float())


def test_every_field_and_the_duration_reach_the_condition(pipeline) -> None:
    prompt, duration = PROMPTS[1]
    base = encode_condition(pipeline, prompt, duration)
    for key, value in {
        "caption": "b",
        "lyrics": "b",
        "bpm": 98,
        "keyscale": "",
        "timesignature": "4",
        "language": "en",
    }.items():
        changed = encode_condition(pipeline, Prompt(**{**vars(prompt), key: value}), duration)
        assert changed.shape != base.shape or not torch.equal(changed, base), key
    assert not torch.equal(encode_condition(pipeline, prompt, duration - 1), base)


def test_only_valid_rows_are_kept(pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream pads to the longest of a batch; a lone prompt has no pads, so pads are made here."""
    prompt, duration = PROMPTS[1]
    expected = encode_condition(pipeline, prompt, duration)
    original = type(pipeline).encode_prompt

    def padded(self: Any, **arguments: Any) -> Any:
        text, text_mask, lyrics, lyrics_mask = original(self, **arguments)
        more, masked = torch.randn(1, 5, text.shape[-1]), torch.zeros(1, 5, dtype=torch.bool)
        return torch.cat([text, more], 1), torch.cat([text_mask, masked], 1), lyrics, lyrics_mask

    monkeypatch.setattr(type(pipeline), "encode_prompt", padded)
    assert torch.equal(encode_condition(pipeline, prompt, duration), expected)


def test_texts_beyond_the_limits_are_told(pipeline) -> None:
    assert overlong(pipeline, *PROMPTS[0]) == []
    told = overlong(pipeline, *PROMPTS[2])
    assert [text.split()[0] for text in told] == ["caption", "lyrics"]
    assert told[0].endswith("256 are read") and told[1].endswith("2048 are read")


def test_the_template_is_in_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.ace_step import pipeline_ace_step as upstream

    digests = {template_digest()}
    monkeypatch.setattr(upstream, "SFT_GEN_PROMPT", upstream.SFT_GEN_PROMPT + " ")
    digests.add(template_digest())
    monkeypatch.setitem(upstream.TASK_INSTRUCTIONS, "text2music", "Make music:")
    digests.add(template_digest())
    assert len(digests) == 3


def audio(samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(2, samples, generator=generator("audio"))


def test_latents_are_a_draw_of_the_posterior(pipeline) -> None:
    sound = audio(25 * FRAME)
    latents = encode_latents(pipeline.vae, sound, generator("a"))
    with torch.no_grad():
        posterior = pipeline.vae.encode(sound[None]).latent_dist
    assert torch.equal(latents, posterior.sample(generator("a"))[0].T)
    assert torch.equal(latents, encode_latents(pipeline.vae, sound, generator("a")))
    assert not torch.equal(latents, encode_latents(pipeline.vae, sound, generator("b")))
    assert latents.shape == (25, pipeline.vae.config.decoder_input_channels) and latents.is_contiguous()


@pytest.mark.parametrize("extra", [0, 1, FRAME - 1])
def test_samples_beyond_the_last_whole_frame_are_left_out(pipeline, extra: int) -> None:
    sound = audio(11 * FRAME - 1)
    latents = encode_latents(pipeline.vae, sound[:, : 10 * FRAME + extra], generator("a"))
    assert torch.equal(latents, encode_latents(pipeline.vae, sound[:, : 10 * FRAME], generator("a")))
    assert len(latents) == 10


@pytest.mark.parametrize("frames", [301, 349, 400, 451])
def test_tiles_do_not_show(pipeline, frames: int) -> None:
    """Tiles of 200 keep 100 frames each: the song ends in, at and just beyond a tile's core."""
    sound = audio(frames * FRAME + 17)
    whole = encode_latents(pipeline.vae, sound, generator("a"), tile=1000)
    tiled = encode_latents(pipeline.vae, sound, generator("a"), tile=200)
    assert tiled.shape == whole.shape == (frames, whole.shape[1])
    assert (tiled - whole).abs().max() < 2e-6


def test_no_more_than_a_tile_is_encoded_at_once(pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    handle = pipeline.vae.encoder.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[-1]))
    encode_latents(pipeline.vae, audio(450 * FRAME), generator("a"), tile=200)
    handle.remove()
    assert len(seen) == 5 and max(seen) == 200 * FRAME


def test_the_overlap_exceeds_what_the_encoder_sees(pipeline) -> None:
    """One changed sample moves latents only within the overlap."""
    sound = audio(300 * FRAME)
    changed = sound.clone()
    changed[:, 150 * FRAME] += 1
    difference = encode_latents(pipeline.vae, sound, generator("a")) - encode_latents(
        pipeline.vae, changed, generator("a")
    )
    moved = difference.abs().amax(1).nonzero().flatten()
    assert len(moved) > 1 and (moved - 150).abs().max() < 25
