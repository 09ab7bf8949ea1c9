"""Loudness against the recommendation's calibration and against pyloudnorm, which holds the whole song."""

import numpy as np
import pytest
from pyloudnorm import Meter

from acetrain.data.survey.loudness import Loudness


def sine(seconds: float, rate: int, decibels: float, channels: int = 2, hertz: float = 997.0) -> np.ndarray:
    wave = 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def loudness(samples: np.ndarray, rate: int, cut: int = 1 << 18) -> float | None:
    meter = Loudness(rate, samples.shape[1])
    for start in range(0, len(samples), cut):
        meter.add(samples[start : start + cut])
    return meter.integrated()


def test_full_scale_at_997_hz_in_one_channel_reads_as_the_recommendation_says():
    one_side = sine(5, 48000, 0.0) * np.array([1, 0], np.float32)
    assert loudness(one_side, 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("decibels", [-23.0, -14.0, -3.0])
def test_a_stereo_sine_reads_as_loud_as_its_level_at_every_rate(rate, decibels):
    assert loudness(sine(3, rate, decibels), rate) == pytest.approx(decibels, abs=0.05)


def test_mono_is_heard_on_both_channels():
    mono, stereo = (loudness(sine(2, 48000, -20, channels), 48000) for channels in (1, 2))
    assert mono == pytest.approx(stereo, abs=1e-9)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_it_equals_pyloudnorm_on_music_with_silence_and_quiet_parts(rate):
    draw = np.random.default_rng(3)
    level = np.repeat([0.5, 0.0, 0.02, 0.3, 1e-5, 0.1], 2 * rate)[:, None]
    song = (level * draw.standard_normal((len(level), 2)) * [1.0, 0.4]).astype(np.float32)
    whole = Meter(rate, filter_class="DeMan").integrated_loudness(song.astype(np.float64))
    assert loudness(song, rate) == pytest.approx(whole, abs=0.02)  # its last block may be cut short


@pytest.mark.parametrize("cut", [1, 999, 4410, 100_000])
def test_how_the_samples_arrive_makes_no_difference(cut):
    song = (0.1 * np.random.default_rng(0).standard_normal((20_001, 2))).astype(np.float32)
    assert loudness(song, 11025, cut) == pytest.approx(loudness(song, 11025), abs=1e-9)


@pytest.mark.parametrize("song", [sine(0.39, 48000, -14), sine(2, 48000, -90), np.zeros((96000, 2), np.float32)])
def test_what_is_too_short_or_too_quiet_has_none(song):
    assert loudness(song, 48000) is None
