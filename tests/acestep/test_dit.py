"""Law 4, first half: a lone song goes through as in diffusers; a padded one gets what it would get alone."""

import pytest
import torch
from diffusers import AceStepTransformer1DModel
from fabricate import MODEL, base, song

from acetrain.acestep.load import Base, text_to_music_context
from acetrain.data.batch import collate

SHAPES = [(601, 33), (300, 50), (1, 1), (555, 50)]
TIMES = torch.tensor([0.9, 0.5, 0.1, 0.7])


@pytest.fixture(scope="module")
def loaded() -> Base:
    return base()


@pytest.fixture(scope="module")
def upstream() -> AceStepTransformer1DModel:
    return AceStepTransformer1DModel.from_pretrained(
        MODEL.checkpoint.folder, subfolder="transformer", dtype=torch.float32
    ).eval()


def alone(loaded: Base, index: int) -> torch.Tensor:
    frames, tokens = SHAPES[index]
    latents, condition = song(frames, tokens, seed=index)
    context = text_to_music_context(loaded.silence, frames)[None]
    return loaded.dit.velocity(latents[None], TIMES[index : index + 1], condition[None], context, [frames], [tokens])[0]


@torch.no_grad()
@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_a_lone_song_goes_through_as_in_diffusers_to_the_bit(
    loaded: Base, upstream: AceStepTransformer1DModel, index: int
) -> None:
    frames, tokens = SHAPES[index]
    latents, condition = song(frames, tokens, seed=index)
    t = TIMES[index : index + 1]
    context = text_to_music_context(loaded.silence, frames)[None]
    expected = upstream(latents[None], t, t, condition[None], context, return_dict=False)[0][0]
    assert torch.equal(alone(loaded, index), expected)


def padded(loaded: Base, order: list[int], checkpointing: bool = False) -> torch.Tensor:
    """The songs in one batch, with rubbish in the padding."""
    batch = collate([song(*SHAPES[i], seed=i) for i in order], [(i,) for i in order], 1.0)
    for row, (frames, tokens) in enumerate(zip(batch.frames, batch.tokens, strict=True)):
        batch.latents[row, frames:] = 7.0
        batch.condition[row, tokens:] = -9.0
    context = text_to_music_context(loaded.silence, batch.latents.shape[1]).expand(len(order), -1, -1)
    if checkpointing:
        loaded.dit.recompute(1)
    else:
        loaded.dit.recompute(0)
    return loaded.dit.velocity(batch.latents, TIMES[order], batch.condition, context, batch.frames, batch.tokens)


@torch.no_grad()
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0], [1, 3], [2, 1, 0]])
def test_a_padded_song_gets_what_it_gets_alone(loaded: Base, order: list[int]) -> None:
    together = padded(loaded, order)
    for row, index in enumerate(order):
        expected = alone(loaded, index)
        error = (together[row, : SHAPES[index][0]] - expected).abs().max() / expected.abs().max()
        assert error < 1e-5


@torch.no_grad()
def test_without_our_masks_padding_would_be_heard(loaded: Base, upstream: AceStepTransformer1DModel) -> None:
    batch = collate([song(*SHAPES[i], seed=i) for i in (0, 1)], [(0,), (1,)], 1.0)
    context = text_to_music_context(loaded.silence, batch.latents.shape[1]).expand(2, -1, -1)
    t = TIMES[:2]
    theirs = upstream(batch.latents, t, t, batch.condition, context, return_dict=False)[0][1, :300]
    expected = alone(loaded, 1)
    assert (theirs - expected).abs().max() / expected.abs().max() > 1e-3


def test_recomputed_activations_give_the_same_gradients(loaded: Base) -> None:
    weight = loaded.dit.get_parameter("layers.0.cross_attn.to_k.weight")
    gradients = []
    for checkpointing in (False, True):
        weight.requires_grad_(True)
        padded(loaded, [0, 1, 3], checkpointing).pow(2).mean().backward()
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
        weight.grad = None
        weight.requires_grad_(False)
    assert torch.equal(*gradients)
