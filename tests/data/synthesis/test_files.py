import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acetrain.data.synthesis import files
from acetrain.data.synthesis.ogg import with_serial
from acetrain.data.synthesis.song import Song, compose


@pytest.fixture(scope="module")
def song() -> Song:
    return compose(0, "marimba", 0, 4, 4)


@pytest.mark.parametrize("index", range(5))
def test_each_format_reads_back_as_the_song(song: Song, index: int, tmp_path: Path):
    path = files.write(song, index, tmp_path)
    audio, rate = soundfile.read(path, dtype="float32")
    assert path.suffix == "." + list(files.FORMATS)[index]
    assert rate == 48000
    assert audio.shape[1] == 2
    assert len(audio) == pytest.approx(len(song.audio), abs=3000)
    assert _correlation(audio, song.audio) > 0.95


def test_sidecars_say_what_is_known(song: Song, tmp_path: Path):
    stem = files.write(song, 0, tmp_path).with_suffix("")
    assert Path(f"{stem}.caption.txt").read_text() == song.caption + "\n"
    assert Path(f"{stem}.lyrics.txt").read_text() == song.lyrics + "\n"
    assert json.loads(Path(f"{stem}.json").read_text()) == {
        "caption": song.caption,
        "bpm": song.bpm,
        "keyscale": song.keyscale,
        "timesignature": "6",
        "language": song.language,
    }


@pytest.mark.parametrize("suffix", list(files.FORMATS))
def test_the_same_song_gives_the_same_bytes(song: Song, suffix: str):
    assert files.encoded(song, 3, suffix) == files.encoded(song, 3, suffix)


def test_setting_a_serial_keeps_the_sound_and_setting_it_back_gives_the_first_bytes(song: Song, tmp_path: Path):
    data = files.encoded(song, 3, "ogg")
    changed = with_serial(data, 4)
    (tmp_path / "a.ogg").write_bytes(data)
    (tmp_path / "b.ogg").write_bytes(changed)
    assert changed != data
    assert with_serial(changed, 3) == data
    assert np.array_equal(soundfile.read(tmp_path / "a.ogg")[0], soundfile.read(tmp_path / "b.ogg")[0])


def test_what_is_no_ogg_stream_is_refused():
    with pytest.raises(ValueError, match="no Ogg page"):
        with_serial(b"RIFF" + bytes(60), 0)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The largest correlation over a few thousand samples of delay, which encoders may add."""
    size = min(len(a), len(b))
    x, y = a[:size].mean(axis=1), b[:size].mean(axis=1)
    product = np.fft.irfft(np.fft.rfft(x, 2 * size) * np.conj(np.fft.rfft(y, 2 * size)))
    return float(max(product[:3000].max(), product[-3000:].max()) / np.sqrt((x @ x) * (y @ y)))
