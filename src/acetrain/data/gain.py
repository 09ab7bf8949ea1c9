"""Bringing songs to one loudness before they are encoded, by one gain each; nothing is compressed or limited."""

import math
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float32

from acetrain.data.decoding import BLOCK
from acetrain.data.survey.loudness import Loudness

CEILING = -1.0
"""True peak in dB that a louder song may come to; EBU R 128's own bound."""
OVERSAMPLING = 4
"""Samples between which a true peak is looked for, as in Annex 2 of ITU-R BS.1770-4."""


class Gain(NamedTuple):
    """What a song is amplified by."""

    decibels: float
    told: str
    """Why it does not come to the loudness asked for; empty where it does."""


def gain_to(target: float, samples: Float32[np.ndarray, "2 sample"], rate: int) -> Gain:
    """The gain that brings samples to `target` LUFS, integrated as in ITU-R BS.1770-4.

    A song that is to be louder gets no more than what brings its true peak to `CEILING`, so that a gain never clips;
    one that is to be quieter gets all of it, its own peaks included. Without a loudness (too short, too quiet) it is 0.
    """
    meter = Loudness(rate, 2)
    for start in range(0, samples.shape[1], BLOCK):
        meter.add(samples[:, start : start + BLOCK].T)
    loudness = meter.integrated()
    if loudness is None:
        return Gain(0.0, "is too short or too quiet to have a loudness; it is left as it is")
    wanted = target - loudness
    room = max(0.0, CEILING - true_peak(samples, rate)) if wanted > 0 else 0.0
    if wanted <= room or wanted <= 0:
        return Gain(wanted, "")
    told = f"comes to {loudness + room:.1f} LUFS, not {target:g}: more gain than {room:.1f} dB would clip its peaks"
    return Gain(room, told)


def true_peak(samples: Float32[np.ndarray, "2 sample"], rate: int) -> float:
    """The highest magnitude between samples as well as at them, in dB relative to full scale."""
    between = soxr.ResampleStream(rate, OVERSAMPLING * rate, 2)
    highest = float(np.abs(samples).max(initial=0.0))
    starts = range(0, samples.shape[1], BLOCK)
    for start in starts:
        block = np.ascontiguousarray(samples[:, start : start + BLOCK].T)
        louder = between.resample_chunk(block, last=start == starts[-1])
        highest = max(highest, float(np.abs(louder).max(initial=0.0)))
    return 20 * math.log10(max(highest, 1e-10))


def amplified(samples: Float32[np.ndarray, "2 sample"], decibels: float) -> Float32[np.ndarray, "2 sample"]:
    """The samples times a gain."""
    return (samples * np.float32(10 ** (decibels / 20))).astype(np.float32)
