"""What is said of a song: every text and every lyrics encoded once, numbered, and told apart by its digest."""

from dataclasses import replace

import pytest

from acetrain.data.prompt import Prompt
from acetrain.data.script import Script, window_frames

LYRICS = "[Verse]\none\n[Chorus]\ntwo\n[Verse]\nthree"
PROMPT = Prompt("calm, rain", LYRICS, 90, "C major", "4", "en")
SCRIPT = Script(PROMPT, ("rain, calm", "calm", "rain, calm"), "jazz", (None, 0.5, None, 20.0, None, 70.0), window=30.0)


def test_what_is_said_in_one_way_has_the_digest_of_its_prompt() -> None:
    assert Script(PROMPT).digest() == Script(PROMPT, times=(1.0,)).digest() == PROMPT.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"captions": ("rain, calm",)},
        {"genre": "rock"},
        {"window": 31.0},
        {"window": None},
        {"times": ()},
        {"prompt": replace(PROMPT, bpm=91)},
    ],
)
def test_whatever_is_encoded_is_in_the_digest(change: dict) -> None:
    assert replace(SCRIPT, **change).digest() != SCRIPT.digest()


def test_each_text_and_each_lyrics_is_encoded_once() -> None:
    made = SCRIPT.encodings(1000, 10.0)
    captions = ["calm, rain", "rain, calm", "calm", "jazz"]
    assert made.texts == tuple((caption, seconds) for seconds in (100.0, 30.0) for caption in captions)
    assert made.whole.captions == [0, 1, 2, 1] and made.whole.genre == 3
    assert made.windows and made.windows.frames == 300
    assert made.windows.wordings.captions == [4, 5, 6, 5] and made.windows.wordings.genre == 7
    assert made.lyrics[0] == LYRICS and len(set(made.lyrics)) == len(made.lyrics)
    pairs = made.prompts(PROMPT)
    assert [(prompt.caption, seconds) for prompt, seconds in pairs[: len(made.texts)]] == list(made.texts)
    assert {prompt.lyrics for prompt, _ in pairs} == set(made.lyrics)
    assert pairs[0] == (PROMPT, 100.0) and len(pairs) == max(len(made.texts), len(made.lyrics))


def test_times_decide_what_a_window_is_told() -> None:
    windows = SCRIPT.encodings(1000, 10.0).windows
    lyrics = SCRIPT.encodings(1000, 10.0).lyrics
    assert windows is not None
    told = {start: lyrics[number] for start, number in zip(windows.starts, windows.lyrics, strict=True)}
    assert told == {
        0: "[Verse]\none",
        50: "[Verse]\none\n[Chorus]\ntwo",
        101: "[Chorus]\ntwo",
        550: "[Chorus]\ntwo\n[Verse]\nthree",
        551: "[Verse]\nthree",
    }


@pytest.mark.parametrize("frames", [300, 299, 7])
def test_a_song_no_longer_than_a_window_has_none(frames: int) -> None:
    made = SCRIPT.encodings(frames, 10.0)
    assert made.windows is None and made.lyrics == (LYRICS,) and len(made.texts) == 4


def test_windows_are_whole_frames() -> None:
    assert [window_frames(seconds, 25.0) for seconds in (30.0, 1.0, 1.03, 1.04)] == [750, 25, 25, 26]
