"""The page and the JSON of a survey: what they hold, and how they fit a terminal."""

import json

import pytest
from rich.cells import cell_len
from rich.console import Console
from surveys import GOOD_AUDIO, audio, named, prompt, row, survey

from acetrain.data.faults import Fault
from acetrain.data.survey.collect import Row, Survey
from acetrain.data.survey.document import VERSION, document
from acetrain.data.survey.rules import advise
from acetrain.data.survey.table import COLUMNS, length, lyrics, page

HARD = Survey(
    [
        prompt(caption="a [bold]caption[/bold]\nin two lines,\x1b[31m and more " * 9)(row(0)),
        named("an album/disc 1/" + "a very long title " * 5 + "end.flac")(row(1)),
        prompt(caption="바다의 노래, 잔잔한 파도" * 4)(named("노래/바다의 노래, 제1장 그리고 그 다음.wav")(row(2))),
        Row("[x].wav", None, GOOD_AUDIO, ("no caption", "bpm: must be a number from 30 to 300, got 400")),
        Row("broken.mp3", row(4).song, None, ("cannot be decoded (" + "because " * 20 + ")",)),
        audio(seconds=10.0, loudness=-30.0, mono=True, clipped_peaks=99)(row(5)),
    ],
    warnings=[Fault("00.wav", "bpm of the CSV won over bpm of 00.json")],
)


def shown(found: Survey, width: int) -> str:
    return page(found, advise(found), Console(width=width, highlight=False, markup=False, color_system=None))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_nor_ends_in_blanks(width):
    lines = shown(HARD, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_song_has_one_line_under_every_title(width):
    head, *rest = shown(HARD, width).splitlines()
    assert [title for title in COLUMNS if title in head] == [*COLUMNS] or width == 60
    assert rest.index("") == len(HARD.rows)


def test_captions_are_cut_and_names_keep_their_end():
    _, first, second, *_ = shown(HARD, 80).splitlines()
    assert "a [bold]capt" in first and "…" in first
    assert second.startswith("…") and "end.flac " in second


def test_what_is_wrong_is_told_in_full_below():
    text = shown(HARD, 80)
    below = text[text.index("problems (3 in 2 of 6)") :]
    assert "[x].wav     no caption\n            bpm: must be a number" in below
    assert below.count("because") == 20
    assert "warnings (1)" in below
    assert "mono" in below[below.index("advice (") :]


def test_flags_stand_beside_the_song():
    line = next(line for line in shown(HARD, 200).splitlines() if line.startswith("05.wav"))
    assert line.endswith("short, mono, clipped, quiet")


def test_sums():
    assert "\n4 of 6 usable · 9.2 min · with caption 4, lyrics 4, bpm 4, key 4\n" in shown(HARD, 120)
    assert "\n10 songs · 30.0 min · with caption 10, lyrics 10, bpm 10, key 10\n" in shown(survey(), 120)


def test_a_page_without_problems_has_no_list_of_them():
    text = shown(survey(), 120)
    assert "problems (" not in text and "warnings (" not in text
    assert "advice (2)" in text


def test_colours_stand_for_kinds_only_where_there_are_colours():
    coloured = page(HARD, advise(HARD), Console(width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[31m" in coloured
    assert "\x1b" not in shown(HARD, 80)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (61, "1:01"), (600, "10:00")])
def test_lengths(seconds, text):
    assert length(seconds) == text


def test_lyrics_count_what_is_sung():
    assert lyrics("[Instrumental]") == "none"
    assert lyrics("la") == "1 line"
    assert lyrics("[Verse]\nla\n\n[Chorus]\nla la\n") == "2 lines"


def test_the_document_holds_every_file_with_types_that_stay():
    found = json.loads(json.dumps(document("songs", HARD, advise(HARD))))
    assert set(found) == {"version", "songs", "totals", "settings", "files", "faults", "warnings", "advice"}
    assert (found["version"], found["songs"]) == (VERSION, "songs") == (1, "songs")
    assert found["totals"] == {
        "files": 6,
        "usable": 4,
        "faulty": 2,
        "seconds": 550.0,
        "with_caption": 4,
        "with_lyrics": 4,
        "with_bpm": 4,
        "with_key": 4,
    }
    for file in found["files"]:
        assert set(file) == {"file", "text", "audio", "faults", "flags"}
    good, fault, broken = found["files"][1], found["files"][3], found["files"][4]
    assert found["settings"]["tag_position"] == "prepend"
    assert set(good["text"]) == {
        "caption",
        "lyrics",
        "bpm",
        "keyscale",
        "timesignature",
        "language",
        "genre",
        "tag",
        "override",
        "repeat",
    }
    assert set(good["audio"]) == {
        "seconds",
        "sample_rate",
        "channels",
        "mono",
        "peak",
        "clipped_peaks",
        "loudness",
        "sha256",
    }
    assert (fault["text"], broken["audio"]) == (None, None)
    assert {(one["file"], one["what"]) for one in found["faults"]} >= {("[x].wav", "no caption")}
    assert found["warnings"] == [{"file": "00.wav", "what": "bpm of the CSV won over bpm of 00.json"}]
    assert all(set(one) == {"rule", "what", "songs"} for one in found["advice"])


def test_what_is_unknown_is_null():
    found = document("songs", survey(change=prompt(bpm=None, keyscale="", timesignature="")), [])
    first = found["files"][0]["text"]
    assert (first["bpm"], first["keyscale"], first["timesignature"]) == (None, None, None)
