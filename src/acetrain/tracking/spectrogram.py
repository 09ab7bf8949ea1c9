"""Sounds as pictures: loudness over time and pitch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from acetrain.atomic import replacing

WINDOW = 0.05
"""Seconds of sound that a column is taken from, to the next power of two of samples."""
OVERLAP = 4
"""Columns in a window."""
BANDS = 200
LOWEST = 40.0
"""Hz of the lowest band, about what the window tells apart."""
RANGE = 80.0
"""Decibels below the loudest band that are told from silence."""
COLOURS = "magma"


def bands(
    sound: Float32[np.ndarray, "channel sample"], rate: int
) -> tuple[Float[np.ndarray, " edge"], Float[np.ndarray, "band time"]]:
    """Edges of the columns in seconds, and the power of the mean of the channels in decibels.

    Bands are of equal musical width, from `LOWEST` to half the rate: each takes the loudest of the frequencies in it,
    or the nearest one where it holds none.
    """
    window = 2 ** int(np.ceil(np.log2(WINDOW * rate)))
    hop = window // OVERLAP
    padded = np.pad(sound.mean(axis=0).astype(np.float64), (0, max(0, window - sound.shape[1])))
    power = ShortTimeFFT(hann(window), hop, rate).spectrogram(padded, p0=0, p1=-(-len(padded) // hop))
    edges = _pitches(rate) * window / rate
    lower = np.minimum(np.round(edges[:-1]).astype(int), len(power) - 1)
    upper = np.maximum(np.round(edges[1:]).astype(int), lower + 1)
    loudest = np.stack([power[low:high].max(axis=0) for low, high in zip(lower, upper, strict=True)])
    return (np.arange(power.shape[1] + 1) - 0.5) * hop / rate, 10 * np.log10(loudest + 1e-12)


def draw(file: Path, sounds: Mapping[str, Float32[np.ndarray, "channel sample"]], rate: int, title: str) -> None:
    """Write a PNG of sounds one below the other, on one scale of loudness; the keys are their titles."""
    drawn = {name: bands(sound, rate) for name, sound in sounds.items()}
    loudest = max(float(values.max()) for _, values in drawn.values())
    figure = Figure(figsize=(10, 1 + 2.6 * len(drawn)), layout="constrained")
    rows = figure.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
    scale = Normalize(loudest - RANGE, loudest)
    for axes, (name, (seconds, values)) in zip(rows, drawn.items(), strict=True):
        axes.pcolormesh(seconds, _pitches(rate), values, norm=scale, cmap=COLOURS, rasterized=True)
        axes.set(yscale="log", ylabel="Hz", title=name, xlim=(0, sounds[name].shape[1] / rate))
    rows[-1].set_xlabel("seconds")
    figure.colorbar(ScalarMappable(scale, COLOURS), ax=list(rows), label="dB")
    figure.suptitle(title if len(title) <= 80 else f"{title[:77]}...")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _pitches(rate: int) -> Float[np.ndarray, " edge"]:
    """Hz between which the bands lie."""
    return np.geomspace(LOWEST, rate / 2, BANDS + 1)
