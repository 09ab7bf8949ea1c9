"""What a song's audio is like, found out in the one pass that checks it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acetrain.data import audio
from acetrain.data.decoding import Samples
from acetrain.data.survey.loudness import Loudness

FULL_SCALE = 0.999
"""Magnitude from which a sample counts as clipped; 16 bits end at 0.99997."""
CLIPPED_RUN = 3
"""Samples in a row at full scale that make a clipped peak."""


@dataclass(frozen=True)
class Measurement:
    """A song's audio in numbers."""

    seconds: float
    sample_rate: int
    """Hz."""
    channels: int
    mono: bool
    """Whether it has one channel, or two that are the same."""
    peak: float
    """dB relative to full scale; decoders of lossy formats go above 0."""
    clipped_peaks: int
    """Runs of at least `CLIPPED_RUN` samples at full scale."""
    loudness: float | None
    """Integrated, in LUFS; None where a song is too short or too quiet to have one."""
    sha256: str


def measure(file: Path, shortest: float, crop: float | None = None) -> Measurement:
    """Decode a file once, up to `crop` seconds where given, and measure it.

    Raises `Refused` as `audio.inspect` does; `shortest` in seconds.
    """
    meter = _Meter()
    found = audio.inspect(file, shortest, meter.add, crop)
    return Measurement(
        seconds=found.seconds,
        sample_rate=meter.rate,
        channels=meter.channels,
        mono=meter.mono,
        peak=20 * math.log10(max(meter.peak, 1e-10)),
        clipped_peaks=meter.clipped,
        loudness=meter.loudness.integrated() if meter.loudness else None,
        sha256=found.sha256,
    )


class _Meter:
    """Measures blocks as they come."""

    def __init__(self) -> None:
        self.rate = self.channels = self.clipped = 0
        self.peak = 0.0
        self.mono = True
        self.loudness: Loudness | None = None
        self._before = np.zeros((CLIPPED_RUN, 1), bool)
        """Which of the last samples were at full scale."""

    def add(self, rate: int, block: Samples) -> None:
        if self.loudness is None:
            self.rate, self.channels = rate, block.shape[1]
            self.loudness = Loudness(rate, self.channels)
            self._before = np.zeros((CLIPPED_RUN, self.channels), bool)
        self.loudness.add(block)
        magnitude = np.abs(block)
        self.peak = max(self.peak, float(magnitude.max()))
        self.mono = self.mono and bool((block[:, :1] == block).all())
        self._count_clipped(magnitude >= FULL_SCALE)

    def _count_clipped(self, full: np.ndarray) -> None:
        """Count the runs that become long enough within this block, also where they began in the one before."""
        flags = np.concatenate([self._before, full])
        length = len(flags) - CLIPPED_RUN + 1
        in_run = np.logical_and.reduce([flags[offset : offset + length] for offset in range(CLIPPED_RUN)])
        self.clipped += int((in_run[1:] & ~in_run[:-1]).sum())
        self._before = flags[-CLIPPED_RUN:]
