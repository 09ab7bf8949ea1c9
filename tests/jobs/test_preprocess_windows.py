"""`acetrain preprocess crop_seconds=...`: windows of songs, each with its own duration and the lyrics sung in it."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest
import torch
from encoded import encode_condition
from fabricate import FRAME_RATE
from preprocessing import preprocess
from prompting import AS_WRITTEN
from tones import write_tone

from acetrain.acestep.model import Tiny
from acetrain.data.cache import Cache
from acetrain.data.option import Data
from acetrain.data.script import window_frames
from acetrain.data.sections import in_windows
from acetrain.errors import Refused
from acetrain.jobs.preprocess import Preprocess
from acetrain.training.precision import Precision

LYRICS = "[Intro]\n[Verse]\none\ntwo\n\n[Chorus]\nla\nla la\n\n[Verse]\nthree\n\n[Chorus]\nla\nla la"
WINDOW = 1.5
DATA = Data("100", "", validation=0.0, repeats=1, crop_seconds=WINDOW, workers=0)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, fp32: Precision) -> Preprocess:
    """A job over a song of sections, one with lyrics of one piece, and one that is shorter than a window."""
    folder = tmp_path_factory.mktemp("windows")
    for name, seconds in {"a.wav": 5.0, "b.wav": 2.0, "c.wav": 1.0}.items():
        write_tone(folder / "songs" / name, seconds)
    (folder / "songs" / "a.json").write_text(json.dumps({"genre": "jazz", "lyrics": LYRICS}))
    (folder / "songs" / "b.lyrics.txt").write_text("just one line")
    prompts = replace(AS_WRITTEN, genre_ratio=30)
    return preprocess(folder / "songs", folder / "cache", tiny, fp32, prompts=prompts, crop_seconds=WINDOW)


@pytest.fixture(scope="module")
def cache(job: Preprocess) -> Cache:
    job.check()
    job.run()
    return Cache.open(job.cache)


def visits(cache: Cache, position: int, count: int) -> list:
    song = cache.songs[position]
    return [song.drawn(True, 7, epoch, song.name, 0) for epoch in range(count)]


def test_what_a_window_is_told_is_what_inference_computes(cache: Cache, job: Preprocess, pipeline) -> None:
    """Law 5, for windows: the prompt states the window's length, and has the lyrics that are sung in it."""
    frames = window_frames(WINDOW, FRAME_RATE)
    for position, said in enumerate(job._scanned().songs):
        song = cache.songs[position]
        length = min(song.frames, frames)
        sung = in_windows(said.prompt.lyrics, (), song.frames, length, FRAME_RATE)
        seen = {(take.lyrics, take.text): take for take in visits(cache, position, 60)}
        for take in seen.values():
            words = [words for start, words in sung if start <= take.start][-1]
            genre = song.variants and song.variants.windows and take.text == song.variants.windows.wordings.genre
            prompt = replace(said.prompt, caption=said.genre_caption if genre else said.prompt.caption, lyrics=words)
            latents, condition = cache.read(song, take)
            assert torch.equal(condition, encode_condition(pipeline, prompt, length / FRAME_RATE))
            assert torch.equal(latents, cache.read(song)[0][take.start : take.start + length])
        assert len({take.lyrics for take in seen.values()}) == len({words for _, words in sung})


def test_the_whole_song_is_there_as_well(cache: Cache, job: Preprocess, pipeline) -> None:
    for song, said in zip(cache.songs, job._scanned().songs, strict=True):
        assert torch.equal(cache.read(song)[1], encode_condition(pipeline, said.prompt, song.seconds))
        take = song.drawn(False, 0, 0, song.name, 0)
        assert (take.start, take.frames, take.lyrics) == (0, song.frames, 0)


def test_windows_begin_everywhere_alike(cache: Cache) -> None:
    song = cache.songs[1]
    places = song.frames - song.window + 1
    starts = Counter(take.start for take in visits(cache, 1, 200 * places))
    assert sorted(starts) == list(range(places))
    chi_square = sum((count - 200) ** 2 / 200 for count in starts.values())
    assert chi_square < places + 5 * (2 * places) ** 0.5


def test_a_short_song_is_heard_whole(cache: Cache) -> None:
    song = cache.songs[2]
    assert song.window == 0 and song.variants is None
    assert DATA.frames(song) == song.frames and {take.frames for take in visits(cache, 2, 9)} == {song.frames}
    assert [DATA.frames(song) for song in cache.songs[:2]] == [window_frames(WINDOW, FRAME_RATE)] * 2
    assert [replace(DATA, crop_seconds=None).frames(song) for song in cache.songs] == [s.frames for s in cache.songs]


def test_windows_that_are_not_there_are_refused(cache: Cache, tmp_path: Path) -> None:
    DATA.check(cache)
    replace(DATA, crop_seconds=None).check(cache)
    replace(DATA, crop_seconds=6.0).check(cache)
    with pytest.raises(Refused, match=r"a.wav has windows of 1.5 s there, asked for are 1.2 s\nacetrain pre"):
        replace(DATA, crop_seconds=1.2).check(cache)
    with pytest.raises(Refused, match=r"has no windows there, asked for are 1.5 s"):
        DATA.check(Cache.open(fabricate.cache(tmp_path / "cache", songs=1)))


@pytest.mark.slow
def test_other_windows_take_no_audio(cache: Cache, job: Preprocess, tmp_path: Path, monkeypatch) -> None:
    other = replace(job, cache=str(shutil.copytree(cache.folder, tmp_path / "other")), crop_seconds=None)
    monkeypatch.setattr("acetrain.data.encode.load_component", lambda *_: pytest.fail("loaded"))
    other.run()
    plain = Cache.open(other.cache)
    assert [a.text == b.text for a, b in zip(plain.songs, cache.songs, strict=True)] == [False] * 3
    assert {song.window for song in plain.songs} == {0}
    for a, b in zip(plain.songs, cache.songs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(plain.read(a), cache.read(b), strict=True))
