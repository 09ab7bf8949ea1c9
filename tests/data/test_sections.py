"""Which lyrics a window of a song is told: sections placed by times or lines, each window with those it holds."""

from itertools import pairwise

import pytest

from acetrain.data.sections import WORDLESS, held, in_windows, place, split

SONG = """[Intro]

[Verse 1]
one
two

three
four
[Chorus]
[female vocals]
five
six
[Outro]"""


def sections(lyrics: str) -> list[list[str]]:
    lines = lyrics.split("\n")
    return [[line for line in lines[part.start : part.stop] if line] for part in split(lyrics)]


def test_sections_begin_at_tags_but_for_those_that_say_more_of_the_one_above() -> None:
    assert [part[0] for part in sections(SONG)] == ["[Intro]", "[Verse 1]", "[Chorus]", "[Outro]"]
    assert sections(SONG)[2] == ["[Chorus]", "[female vocals]", "five", "six"]
    assert [line for part in sections(SONG) for line in part] == [line for line in SONG.split("\n") if line]


@pytest.mark.parametrize(
    ("lyrics", "found"),
    [
        ("[Instrumental]", [["[Instrumental]"]]),
        ("one\ntwo", []),
        ("", []),
        ("one\n[Verse]\ntwo", [["one"], ["[Verse]", "two"]]),
        ("\n[Verse]\ntwo", [["[Verse]", "two"]]),
        ("[Intro]\n[Verse]\n[soft]\ntwo", [["[Intro]"], ["[Verse]", "[soft]", "two"]]),
        ("[후렴]\n둘\n[절]\n셋", [["[후렴]", "둘"], ["[절]", "셋"]]),
        ("one [x]\n[Verse: soft]\ntwo\n[not\nclosed]", [["one [x]"], ["[Verse: soft]", "two", "[not", "closed]"]]),
    ],
)
def test_what_is_a_section(lyrics: str, found: list[list[str]]) -> None:
    assert sections(lyrics) == found


def placed(times: list[float | None], frames: int = 1200) -> list[int]:
    return place(split(SONG), SONG.split("\n"), times, frames, 10.0)


def test_without_times_a_section_takes_its_share_by_its_lines() -> None:
    lines = [WORDLESS, 4, 2, WORDLESS]
    share = 1200 / sum(lines)
    assert placed([]) == [round(share * sum(lines[:count])) for count in range(5)]


def test_known_times_place_sections_and_the_others_lie_between() -> None:
    times: list[float | None] = [None] * len(SONG.split("\n"))
    times[3], times[4], times[12] = 20.0, 25.0, 100.0
    assert placed(times) == [0, 200, round(200 + 800 * 4 / 6), 1000, 1200]


@pytest.mark.parametrize(("wrong", "last"), [(0.0, None), (-3.0, None), (10.0, None), (130.0, 110.0)])
def test_times_that_do_not_ascend_within_the_song_are_left_aside(wrong: float, last: float | None) -> None:
    times: list[float | None] = [None] * len(SONG.split("\n"))
    times[3], times[12] = 20.0, last
    right = placed(times)
    times[9] = wrong
    assert placed(times) == right


def test_sections_at_times_beyond_the_end_of_a_cropped_song_are_told_in_none_of_its_windows() -> None:
    times: list[float | None] = [None] * len(SONG.split("\n"))
    times[3], times[9], times[12] = 20.0, 70.0, 100.0
    assert placed(times, frames=1200) == [0, 200, 700, 1000, 1200]
    assert placed(times, frames=600) == [0, 200, 600, 600, 600]
    whole, cropped = (in_windows(SONG, times, frames, 100, 10.0) for frames in (1200, 600))
    assert cropped == [entry for entry in whole if entry[0] <= 500]
    times[9] = None
    assert placed(times, frames=600) == [0, 200, 600, 600, 600]
    assert placed(times, frames=900) == [0, 200, round(200 + 800 * 4 / 6), 900, 900]


BOUNDS = [0, 100, 130, 400, 400, 401, 900, 1000]


@pytest.mark.parametrize("window", [1, 2, 30, 77, 250, 600, 999])
def test_a_window_holds_the_sections_it_half_holds_or_that_half_fill_it(window: int) -> None:
    found = held(BOUNDS, 1000, window)
    starts = [start for start, *_ in found]
    assert starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] <= 1000 - window
    stretches = [*zip(starts, [*starts[1:], 1000 - window + 1], strict=True)]
    for (begin, end), (_, first, last) in zip(stretches, found, strict=True):
        for start in range(begin, end):
            for number, (left, right) in enumerate(pairwise(BOUNDS)):
                overlap = min(start + window, right) - max(start, left)
                if right > left:
                    assert (first <= number <= last) == (2 * overlap >= min(right - left, window)), (start, number)


@pytest.mark.parametrize("lyrics", ["one\ntwo\nthree", "[Instrumental]", "[Verse]\nall of it"])
def test_lyrics_without_sections_are_told_whole(lyrics: str) -> None:
    assert in_windows(lyrics, [], 1000, 300, 10.0) == [(0, lyrics)]


def test_windows_are_told_the_lines_between_their_first_and_last_section() -> None:
    verse, chorus = "[Verse 1]\none\ntwo\n\nthree\nfour", "[Chorus]\n[female vocals]\nfive\nsix"
    assert in_windows(SONG, [], 1400, 500, 10.0) == [
        (0, "[Intro]"),
        (100, f"[Intro]\n\n{verse}"),
        (201, verse),
        (400, f"{verse}\n{chorus}"),
        (601, chorus),
        (700, f"{chorus}\n[Outro]"),
    ]


def test_a_chorus_that_returns_word_by_word_is_the_same_lyrics() -> None:
    song = "[Chorus]\nla\n[Solo]\n[Chorus]\nla"
    assert in_windows(song, [], 900, 100, 10.0)[0][1] == in_windows(song, [], 900, 100, 10.0)[-1][1]
