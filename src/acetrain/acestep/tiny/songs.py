"""What the tiny base is pretrained on: composed songs of every style but one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.tiny.architecture import RATIOS, SAMPLE_RATE
from acetrain.data.synthesis.instruments import RATE
from acetrain.data.synthesis.names import NAMES
from acetrain.data.synthesis.song import Song, compose

UNSEEN = "marimba"
"""The style kept from pretraining, for adapters to learn."""
SEEN = tuple(name for name in NAMES if name != UNSEEN)

FRAME = math.prod(RATIOS)
"""Samples of a latent frame."""
FRAME_RATE = SAMPLE_RATE / FRAME
"""Latent frames a second."""

_SEEDS = {"train": 7_000_000, "held-out": 8_000_000}


@dataclass
class Example:
    """A song as the model hears it, and what is known about it (its own audio dropped)."""

    song: Song
    audio: Float[Tensor, "2 sample"]
    """At the model's rate, cut to whole frames."""

    @property
    def frames(self) -> int:
        """Latent frames of the song."""
        return self.audio.shape[1] // FRAME


def examples(
    seed: int, split: str, style: str, count: int, min_seconds: float, max_seconds: float
) -> Iterator[Example]:
    """`count` songs of a style for "train" or "held-out", under seeds of their own."""
    for index in range(count):
        song = compose(_SEEDS[split] + seed, style, index, min_seconds, max_seconds)
        audio = np.asarray(soxr.resample(song.audio, RATE, SAMPLE_RATE), dtype=np.float32)
        whole = len(audio) // FRAME * FRAME
        yield Example(song, torch.from_numpy(np.ascontiguousarray(audio[:whole].T)))
