"""Songs brought to one loudness: by one gain, which never clips, and which says where it fell short."""

import numpy as np
import pytest

from acetrain.data.gain import CEILING, amplified, gain_to, true_peak
from acetrain.data.survey.loudness import Loudness

RATE = 16000


def noise(level: float, seconds: float = 3.0) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def loudness(samples: np.ndarray) -> float:
    meter = Loudness(RATE, 2)
    meter.add(samples.T)
    found = meter.integrated()
    assert found is not None
    return found


@pytest.mark.parametrize("level", [0.0005, 0.01, 0.5])
@pytest.mark.parametrize("target", [-40.0, -30.0])
def test_a_song_comes_to_the_loudness_asked_for(level: float, target: float) -> None:
    gain = gain_to(target, noise(level), RATE)
    assert gain.told == "" and loudness(amplified(noise(level), gain.decibels)) == pytest.approx(target, abs=1e-3)


def test_no_more_gain_than_peaks_allow_and_it_is_said() -> None:
    song = noise(0.01)
    song[0, 1000] = 0.5
    gain = gain_to(-14.0, song, RATE)
    louder = amplified(song, gain.decibels)
    assert true_peak(louder, RATE) == pytest.approx(CEILING, abs=0.01) and np.abs(louder).max() < 1
    assert gain.told == (
        f"comes to {loudness(louder):.1f} LUFS, not -14: more gain than {gain.decibels:.1f} dB would clip its peaks"
    )


def test_a_song_whose_peaks_are_full_already_gets_no_gain_and_a_loud_one_gets_quieter() -> None:
    spiked = noise(0.01)
    spiked[:, 500] = 1.0
    assert gain_to(-14.0, spiked, RATE).decibels == 0
    loud = gain_to(-14.0, noise(2.0), RATE)
    assert loud.told == "" and loud.decibels < -10


@pytest.mark.parametrize("song", [np.zeros((2, RATE), np.float32), noise(0.1, 0.2), np.zeros((2, 0), np.float32)])
def test_what_has_no_loudness_is_left_as_it_is(song: np.ndarray) -> None:
    gain = gain_to(-14.0, song, RATE)
    assert gain.decibels == 0 and "too short or too quiet" in gain.told


def test_a_peak_between_samples_is_found() -> None:
    """A sine of a quarter of the rate, sampled at 45 degrees, peaks 3 dB above its samples."""
    turns = np.arange(4 * RATE) / 4 + 1 / 8
    wave = np.sin(2 * np.pi * turns) * np.minimum(1, np.arange(4 * RATE) / RATE)
    samples = np.stack([wave, 0 * wave]).astype(np.float32)
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-3.01, abs=0.01)
    assert true_peak(samples, RATE) == pytest.approx(0.0, abs=0.1)
