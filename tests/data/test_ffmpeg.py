"""Audio that is decoded by the ffmpeg command, where there is one."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acetrain.data import audio
from acetrain.data.formats import BY_FFMPEG
from acetrain.errors import Refused

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
CODECS = {".m4a": "aac", ".aac": "aac", ".mp4": "aac", ".wma": "wmav2"}


def encoded(folder: Path, suffix: str, channels: int = 2, seconds: float = 2.0) -> Path:
    """A tone, encoded by ffmpeg, under a name that would mean something to it."""
    wav, file = folder / "in.wav", folder / f"-a: %d [x]{suffix}"
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 44100)) / 44100)
    soundfile.write(wav, np.repeat(tone[:, None], channels, axis=1), 44100)
    command = ["ffmpeg", "-v", "error", "-i", str(wav), "-c:a", CODECS[suffix], f"file:{file}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return file


@needs_ffmpeg
@pytest.mark.parametrize("suffix", sorted(BY_FFMPEG))
def test_it_is_decoded(tmp_path: Path, suffix: str) -> None:
    file = encoded(tmp_path, suffix)
    heard = []
    seconds = audio.inspect(file, 0.1, lambda rate, block: heard.append((rate, block.shape[1]))).seconds
    assert set(heard) == {(44100, 2)} and 1.9 < seconds < 2.2
    samples = audio.read(file, 16000)
    assert abs(samples.shape[1] / 16000 - seconds) < 1e-3 and samples.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(samples[0]))
    assert abs(spectrum.argmax() * 16000 / samples.shape[1] - 440) < 1 and 0.25 < np.abs(samples).max() < 0.4
    assert audio.read(file, 16000, crop=0.5).shape == (2, 8000)


@needs_ffmpeg
def test_one_channel_is_heard_on_both(tmp_path: Path) -> None:
    samples = audio.read(encoded(tmp_path, ".m4a", channels=1), 44100)
    assert samples.shape[0] == 2 and np.array_equal(samples[0], samples[1])


@needs_ffmpeg
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not audio at all" * 20, r"cannot be decoded \(ffmpeg: Invalid data found when processing input\)"),
        (None, r"cannot be decoded \(ffmpeg: Invalid data found when processing input\)"),
    ],
)
def test_what_it_cannot_decode_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = encoded(tmp_path, ".m4a")
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(Refused, match=message):
        audio.inspect(file, 0.1)


@needs_ffmpeg
def test_surround_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has 6 channels; mix it down to stereo"):
        audio.inspect(encoded(tmp_path, ".m4a", channels=6), 0.1)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("suffix", sorted(BY_FFMPEG))
def test_without_ffmpeg_it_is_said_what_is_needed(tmp_path: Path, monkeypatch, suffix: str, there: bool) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if there:
        (tmp_path / "ffmpeg").write_text("no program, and not to be run")
    (tmp_path / f"a{suffix}").write_bytes(b"something")
    message = rf"needs ffmpeg, which is not there to run, as all {suffix} do \(get it by `apt install ffmpeg`, "
    with pytest.raises(Refused, match=message):
        audio.inspect(tmp_path / f"a{suffix}", 0.1)
