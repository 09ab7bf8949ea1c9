"""Measurements of files whose properties are known, and that one pass is enough."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from acetrain.data import audio, decoding
from acetrain.data.survey.measure import CLIPPED_RUN, measure
from acetrain.errors import Refused

RATE = 16000


def stereo(seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return amplitude * np.stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 550 * time)], axis=1)


def written(folder: Path, samples: np.ndarray, suffix: str = ".wav") -> Path:
    file = folder / f"song{suffix}"
    soundfile.write(file, samples, RATE)
    return file


def clipped(lengths: list[int], at: int = 100) -> np.ndarray:
    """A quiet song with runs of full-scale samples on its left channel, one every thousand samples."""
    samples = stereo(1.0, 0.2)
    for position, length in enumerate(lengths):
        samples[at + 1000 * position : at + 1000 * position + length, 0] = -1.0
    return samples


def test_length_rate_channels_and_peak(tmp_path):
    found = measure(written(tmp_path, stereo(1.5)), 0.1)
    assert (found.seconds, found.sample_rate, found.channels, found.mono) == (1.5, RATE, 2, False)
    assert found.peak == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert found.loudness == pytest.approx(-6.0, abs=0.7)
    assert found.clipped_peaks == 0
    assert found.sha256 == audio.inspect(tmp_path / "song.wav", 0.1).sha256


@pytest.mark.parametrize("channels", [1, 2])
def test_one_channel_and_two_equal_ones_are_mono(tmp_path, channels):
    samples = np.repeat(stereo()[:, :1], channels, axis=1)
    found = measure(written(tmp_path, samples), 0.1)
    assert (found.mono, found.channels) == (True, channels)


def test_channels_that_part_late_are_not_mono(tmp_path):
    samples = np.repeat(stereo()[:, :1], 2, axis=1)
    samples[-1, 1] += 0.1
    assert not measure(written(tmp_path, samples), 0.1).mono


@pytest.mark.parametrize(
    ("lengths", "peaks"), [([], 0), ([CLIPPED_RUN - 1] * 4, 0), ([CLIPPED_RUN], 1), ([9, 2, 3, 400], 3)]
)
def test_clipped_peaks_are_runs_at_full_scale(tmp_path, lengths, peaks):
    assert measure(written(tmp_path, clipped(lengths)), 0.1).clipped_peaks == peaks


@pytest.mark.parametrize("block", [1, 2, 3, 4, 7, 101, 103])
def test_a_peak_across_blocks_is_one_peak(tmp_path, monkeypatch, block):
    monkeypatch.setattr(decoding, "BLOCK", block)
    assert measure(written(tmp_path, clipped([9, 2, 3])[:4000]), 0.1).clipped_peaks == 2


def test_a_song_is_opened_once(tmp_path, monkeypatch):
    file, opened, original = written(tmp_path, stereo()), [], soundfile.SoundFile
    monkeypatch.setattr(soundfile, "SoundFile", lambda *given: opened.append(given) or original(*given))
    measure(file, 0.1)
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((10, 2)), "the shortest song is 0.1 s"),
        (np.zeros((RATE, 6)), "has 6 channels"),
        (np.zeros((0, 2)), "holds no audio"),
    ],
)
def test_what_cannot_be_used_is_refused_as_elsewhere(tmp_path, samples, message):
    with pytest.raises(Refused, match=message):
        measure(written(tmp_path, samples), 0.1)
