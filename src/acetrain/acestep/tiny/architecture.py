"""Shapes of the tiny base: every real class of the pipeline, small enough to ship and to train on a CPU."""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

LATENTS = 18
"""Channels of a latent frame; the released checkpoints have 64."""
SAMPLE_RATE = 8000
"""Rate of the autoencoder in Hz."""
RATIOS = (4, 4, 10)
"""Downsampling of the autoencoder; their product is a frame, 50 of them a second (the release has 25)."""
VOCABULARY = 512
"""Tokens: the 256 bytes, three marks, and merges of the prompt template's and the captions' words."""

_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_TEXT, _CONDITION, _HIDDEN = 64, 64, 128


def build(seed: int, corpus: Iterable[str] = ()) -> AceStepPipeline:
    """A randomly initialised pipeline in fp32.

    `seed` fixes every weight (the caller's random state is left alone); the tokenizer learns its merges from `corpus`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        components: dict[str, Any] = {
            "text_encoder": _text_encoder(),
            "transformer": _transformer(),
            "condition_encoder": _condition_encoder(),
            "vae": _autoencoder(),
            "audio_tokenizer": AceStepAudioTokenizer(fsq_dim=32, **_audio_token_shape()),
            "audio_token_detokenizer": AceStepAudioTokenDetokenizer(**_audio_token_shape()),
        }
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
    pipeline = AceStepPipeline(tokenizer=tokenizer(corpus), scheduler=scheduler, **components)
    for component in components.values():
        component.eval()
    return pipeline


def tokenizer(corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `VOCABULARY` tokens: any Unicode text has tokens."""
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=_MARKS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=_MARKS[0], eos_token=_MARKS[0])


def _text_encoder() -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=_TEXT,
        intermediate_size=2 * _TEXT,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=0,
        bos_token_id=0,
    )
    return Qwen3Model(config)


def _transformer() -> AceStepTransformer1DModel:
    return AceStepTransformer1DModel(
        hidden_size=_HIDDEN,
        intermediate_size=7 * _HIDDEN // 4,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        in_channels=3 * LATENTS,
        audio_acoustic_hidden_dim=LATENTS,
        sliding_window=64,
        encoder_hidden_size=_CONDITION,
        is_turbo=False,
        model_version="base",
    )


def _condition_encoder() -> AceStepConditionEncoder:
    return AceStepConditionEncoder(
        hidden_size=_CONDITION,
        intermediate_size=2 * _CONDITION,
        text_hidden_dim=_TEXT,
        timbre_hidden_dim=LATENTS,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=32,
    )


def _autoencoder() -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=2 * LATENTS,
        downsampling_ratios=list(RATIOS),
        channel_multiples=[1, 1, 2],
        decoder_channels=32,
        decoder_input_channels=LATENTS,
        audio_channels=2,
        sampling_rate=SAMPLE_RATE,
    )


def _audio_token_shape() -> dict[str, Any]:
    """The tokenizer and detokenizer serve cover tasks only: present so that every class is, and as small as can be."""
    return {
        "hidden_size": 32,
        "intermediate_size": 32,
        "audio_acoustic_hidden_dim": LATENTS,
        "num_attention_pooler_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
