"""Spectrograms show a tone where it is."""

import numpy as np
import pytest
from matplotlib import image

from acetrain.tracking.spectrogram import BANDS, LOWEST, bands, draw


def tone(hertz: float, rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.tile(np.sin(2 * np.pi * hertz * time), (2, 1)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize("hertz", [110.0, 440.0, 3000.0])
def test_a_tone_is_loudest_in_its_band(rate: int, hertz: float) -> None:
    edges, values = bands(tone(hertz, rate, 1.0), rate)
    pitches = np.geomspace(LOWEST, rate / 2, BANDS + 1)
    loudest = values[:, 4:-4].mean(axis=1).argmax()
    resolution = rate / 2 ** np.ceil(np.log2(0.05 * rate))
    assert pitches[loudest] - resolution <= hertz <= pitches[loudest + 1] + resolution
    assert len(edges) == values.shape[1] + 1 and edges[0] < 0 < edges[1] and edges[-1] == pytest.approx(1.0, abs=0.05)


def test_silence_and_less_than_a_window_are_drawn(tmp_path) -> None:
    sounds = {"base": np.zeros((2, 8000), np.float32), "short": tone(440, 8000, 0.01)}
    draw(tmp_path / "both.png", sounds, 8000, "a title " * 20)
    assert image.imread(tmp_path / "both.png").shape[:2] == (620, 1000)
