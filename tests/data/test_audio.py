"""Decoding, resampling and writing: what a file holds arrives, and what cannot be used is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from acetrain.data import audio, decoding
from acetrain.errors import Refused


def sine(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(("rate", "target"), [(48000, 16000), (44100, 48000), (22050, 16000), (16000, 16000)])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int, target: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1.0, rate), rate, subtype="FLOAT")
    samples = audio.read(tmp_path / "a.wav", target)
    assert samples.dtype == np.float32 and samples.shape == (2, target)
    middle = slice(target // 10, -target // 10)
    assert np.abs(samples[0] - sine(1.0, target))[middle].max() < 1e-4
    assert np.array_equal(samples[0], samples[1])


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([sine(1, 44100), sine(1, 44100, 300)], 1), 44100)
    whole = audio.read(tmp_path / "a.wav", 16000)
    monkeypatch.setattr(decoding, "BLOCK", 777)
    assert np.allclose(audio.read(tmp_path / "a.wav", 16000), whole, atol=1e-6)
    assert not np.allclose(whole[0], whole[1], atol=0.1)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "b.flac", "c.ogg", "sub/d e.opus"])
def test_every_container_is_read(songs_folder: Path, name: str) -> None:
    seconds = audio.inspect(songs_folder / name, 0.1).seconds
    samples = audio.read(songs_folder / name, 16000)
    assert abs(samples.shape[1] / 16000 - seconds) < 1e-3 and 0.2 < np.abs(samples).max() < 0.6


def broken(folder: Path, kind: str) -> Path:
    file = folder / "x.wav"
    if kind == "empty":
        file.touch()
    elif kind == "text":
        file.write_text("not audio at all" * 10)
    elif kind == "no samples":
        soundfile.write(file, np.zeros((0, 2)), 16000)
    elif kind == "nan":
        soundfile.write(file, np.array([0.0, np.nan] * 9000), 16000, subtype="FLOAT")
    elif kind == "surround":
        soundfile.write(file, np.zeros((16000, 6)), 16000)
    elif kind == "short":
        soundfile.write(file, np.zeros(100), 16000)
    elif kind == "cut":
        file = folder / "x.flac"
        soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 160000), 16000)
        file.write_bytes(file.read_bytes()[:90000])
    elif kind == "long":
        soundfile.write(file, np.zeros(601 * 8), 8)
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is empty"),
        ("text", "cannot be decoded"),
        ("no samples", "holds no audio"),
        ("nan", "holds non-finite samples"),
        ("surround", "has 6 channels; mix it down to stereo"),
        ("short", r"lasts 0.006 s, the shortest song is 0.08 s"),
        ("long", r"lasts 601 s, the longest song is 600 s \(max_duration=600 crops it\)"),
        ("cut", "cannot be decoded"),
        ("absent", "cannot be decoded"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        audio.inspect(broken(tmp_path, kind), 0.08)


def test_a_wav_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1, 16000), 16000)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[: 44 + 16000])
    assert audio.inspect(tmp_path / "a.wav", 0.1).seconds == 0.5
    assert audio.read(tmp_path / "a.wav", 16000).shape == (2, 8000)


@pytest.mark.parametrize(("share", "cut"), [(1.0, False), (0.97, True), (0.5, True)])
def test_an_mp3_that_lacks_what_its_header_claims_is_refused(tmp_path: Path, share: float, cut: bool) -> None:
    file = tmp_path / "a.mp3"
    soundfile.write(file, sine(4, 44100), 44100)
    file.write_bytes(file.read_bytes()[: round(share * file.stat().st_size)])
    if cut:
        with pytest.raises(Refused, match=r"is cut short: \d\.\d of 4\.0 s are there"):
            audio.inspect(file, 0.1)
    else:
        assert audio.inspect(file, 0.1).seconds == 4.0


@pytest.mark.parametrize(("suffix", "tolerance"), [(".wav", 4e-5), (".flac", 4e-5), (".ogg", 0.05)])
def test_writing_repeats_to_the_byte(tmp_path: Path, suffix: str, tolerance: float) -> None:
    stereo = np.stack([sine(2, 48000), sine(2, 48000, 300)])
    for name in "ab":
        audio.write(tmp_path / f"{name}{suffix}", stereo, 48000)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert np.abs(audio.read(tmp_path / f"a{suffix}", 48000) - stereo).max() < tolerance
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_crop_is_the_start(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(3, rate), rate, subtype="FLOAT")
    whole, crop = audio.read(tmp_path / "a.wav", 16000), audio.read(tmp_path / "a.wav", 16000, crop=1.25)
    assert crop.shape == (2, 20000)
    assert np.abs(crop - whole[:, :20000])[:, :-200].max() < 1e-3
    assert audio.inspect(tmp_path / "a.wav", 0.1, crop=1.25).seconds == pytest.approx(1.25, abs=1e-4)
    assert audio.inspect(tmp_path / "a.wav", 0.1, crop=9.0).seconds == 3


def test_a_long_or_damaged_file_is_read_up_to_its_crop(tmp_path: Path) -> None:
    assert audio.inspect(broken(tmp_path, "long"), 0.08, crop=600).seconds == 600
    assert audio.inspect(broken(tmp_path, "cut"), 0.08, crop=0.5).seconds == 0.5
    with pytest.raises(Refused, match="holds non-finite samples"):
        audio.inspect(broken(tmp_path, "nan"), 0.08, crop=0.5)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x40\x00" + bytes(8192)], ids=["bare", "tagged"])
def test_an_mp3_that_says_no_length_is_read_to_its_end(tmp_path: Path, tag: bytes) -> None:
    rate, seconds = 48000, 8
    quiet_and_loud = 0.3 * np.random.default_rng(0).standard_normal(rate * seconds).astype(np.float32)
    quiet_and_loud[: rate * 2] *= 1e-3
    with soundfile.SoundFile(tmp_path / "a.mp3", "w", rate, 1, bitrate_mode="VARIABLE", compression_level=0.2) as made:
        made.write(quiet_and_loud)
    data = (tmp_path / "a.mp3").read_bytes()
    counted = data.index(b"Xing")
    after = data.index(data[:2], counted)
    (tmp_path / "b.mp3").write_bytes(tag + data[after:])
    assert soundfile.info(tmp_path / "b.mp3").frames < 0.9 * rate * seconds
    assert abs(audio.inspect(tmp_path / "b.mp3", 0.1).seconds - seconds) < 0.1
    assert abs(audio.read(tmp_path / "b.mp3", 16000).shape[1] - 16000 * seconds) < 1600
    assert audio.read(tmp_path / "b.mp3", 16000, 2.0).shape[1] == 32000
