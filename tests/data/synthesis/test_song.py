import numpy as np
import pytest

from acetrain.data.synthesis import text
from acetrain.data.synthesis.instruments import RATE
from acetrain.data.synthesis.names import MIX, NAMES, style_of
from acetrain.data.synthesis.song import Song, compose
from acetrain.data.synthesis.styles import STYLES


@pytest.fixture(scope="module")
def songs() -> dict[str, list[Song]]:
    return {style: [compose(3, style, index, 4, 8) for index in range(3)] for style in NAMES}


def test_every_name_has_a_style():
    assert tuple(STYLES) == NAMES


def test_the_mix_takes_every_style_in_turn_and_every_style_comes_in_every_format():
    assert {style_of(MIX, index) for index in range(5)} == set(NAMES)
    assert {(style_of(MIX, index), index % 5) for index in range(25)} == {(s, f) for s in NAMES for f in range(5)}
    assert style_of("piano", 7) == "piano"


@pytest.mark.parametrize("style", NAMES)
def test_a_song_keeps_to_its_bounds(style: str, songs: dict[str, list[Song]]):
    for song in songs[style]:
        assert 4 <= song.seconds <= 8
        assert song.audio.shape == (round(song.seconds * RATE), 2)
        assert np.abs(song.audio).max() == pytest.approx(10 ** (-1 / 20), rel=1e-4)
        assert STYLES[style].bpm[0] <= song.bpm <= STYLES[style].bpm[1]
        assert int(song.timesignature) in {meter.signature for meter in STYLES[style].meters}
        assert any(word in song.caption for word in STYLES[style].words)


@pytest.mark.parametrize("style", NAMES)
def test_a_song_follows_from_its_arguments(style: str, songs: dict[str, list[Song]]):
    again = compose(3, style, 1, 4, 8)
    assert np.array_equal(again.audio, songs[style][1].audio)
    assert not np.array_equal(again.audio[:1000], compose(4, style, 1, 4, 8).audio[:1000])


@pytest.mark.parametrize("style", NAMES)
def test_a_song_sounds_in_its_key(style: str, songs: dict[str, list[Song]]):
    """Over the songs, the strongest pitch classes are those of the scale: major and natural minor share seven."""
    for song in songs[style]:
        tonic, mode = song.keyscale.split()
        classes = _pitch_classes(song)
        steps = (0, 2, 4, 5, 7, 9, 11) if mode == "major" else (0, 2, 3, 5, 7, 8, 10, 11)
        names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
        inside = sum(classes[(names.index(tonic) + step) % 12] for step in steps)
        assert inside / classes.sum() > len(steps) / 12 + 0.15


@pytest.mark.parametrize("style", ["chiptune", "marimba"])
def test_onsets_come_on_the_grid_of_the_tempo(style: str, songs: dict[str, list[Song]]):
    song = songs[style][0]
    envelope = np.abs(song.audio.mean(axis=1))[: len(song.audio) // 480 * 480].reshape(-1, 480).mean(axis=1)
    rise = np.maximum(0, np.diff(np.log(envelope + 1e-3)))
    step = 60 / song.bpm / 2 if song.timesignature != "6" else 60 / song.bpm / 3
    others = [_periodicity(rise, step * 100 * stretch) for stretch in np.linspace(1.1, 1.9, 17)]
    assert _periodicity(rise, step * 100) > 2 * np.median(others)


def test_styles_differ_in_timbre(songs: dict[str, list[Song]]):
    centroids = {style: np.mean([_centroid(song) for song in group]) for style, group in songs.items()}
    assert centroids["ambient"] < centroids["piano"] < centroids["chiptune"]


def test_sung_songs_have_lyrics_with_structure_and_others_say_so():
    songs = [compose(0, "synthwave", index, 4, 6) for index in range(12)]
    sung = [song for song in songs if song.lyrics != text.INSTRUMENTAL]
    assert 0 < len(sung) < len(songs)
    assert all(song.lyrics.startswith("[Verse]\n") and "[Chorus]" in song.lyrics for song in sung)
    assert all(song.language == "en" and "voice" in song.caption for song in sung)


def test_vowels_are_those_of_the_sung_lines():
    assert text.vowels("[Verse]\nSlow light\n\n[Chorus]\nHm") == "oi"
    assert text.vowels("") == "a"


def _pitch_classes(song: Song) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(song.audio.mean(axis=1)))
    hz = np.fft.rfftfreq(len(song.audio), 1 / RATE)
    low = (hz > 60) & (hz < 900)
    classes = np.round(12 * np.log2(hz[low] / 440) + 69).astype(int) % 12
    return np.bincount(classes, weights=spectrum[low] ** 2, minlength=12)


def _periodicity(rise: np.ndarray, period: float) -> float:
    return float(np.abs(np.exp(2j * np.pi * np.arange(len(rise)) / period) @ rise))


def _centroid(song: Song) -> float:
    spectrum = np.abs(np.fft.rfft(song.audio.mean(axis=1)))
    return float(np.fft.rfftfreq(len(song.audio), 1 / RATE) @ spectrum / spectrum.sum())
