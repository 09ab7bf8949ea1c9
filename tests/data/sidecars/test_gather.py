"""Which sidecar counts where several give a field, and what is said about it."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from acetrain.data.prompt import INSTRUMENTAL
from acetrain.data.songs import Scan, Song, scan
from acetrain.data.wording import Override

CAPTIONS = {
    "a_prompt.txt": "by prompt",
    "a.txt": "caption: by text",
    "a.caption.txt": "by caption",
    "a.json": '{"caption": "by json"}',
    "keys.csv": "File,Caption\na.wav,by csv\n",
}
LYRICS = {
    "a_lyrics.txt": "by v1",
    "a.lrc": "[00:01.00]by lrc",
    "a.txt": "by text",
    "a.json": '{"caption": "x", "lyrics": "by json"}',
    "a.lyrics.txt": "by lyrics",
}
"""Sidecars in rising order of precedence, and what each says."""


def scanned(folder: Path, files: Mapping[str, str | bytes], *songs: str) -> Scan:
    for name in songs or ("a.wav",):
        (folder / name).write_bytes(b"audio")
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return scan(folder)


def only(found: Scan) -> Song:
    assert not found.faults
    (song,) = found.songs
    return song


def said(found: Scan) -> list[str]:
    return [warning.what for warning in found.warnings]


@pytest.mark.parametrize("kind", CAPTIONS)
def test_every_kind_gives_a_caption(tmp_path: Path, kind: str) -> None:
    found = scanned(tmp_path, {kind: CAPTIONS[kind]})
    assert only(found).prompt.caption.startswith("by ") and not found.warnings


@pytest.mark.parametrize("kind", LYRICS)
def test_every_kind_gives_lyrics(tmp_path: Path, kind: str) -> None:
    found = scanned(tmp_path, {"a_prompt.txt": "x", kind: LYRICS[kind]})
    assert only(found).prompt.lyrics.startswith("by ") and not found.warnings


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations(CAPTIONS, 2)))
def test_the_later_kind_counts_and_the_disagreement_is_said(tmp_path: Path, low: str, high: str) -> None:
    found = scanned(tmp_path, {low: CAPTIONS[low], high: CAPTIONS[high]})
    winner = {"a_prompt.txt": "prompt", "a.txt": "text", "a.caption.txt": "caption", "a.json": "json"}.get(high, "csv")
    assert only(found).prompt.caption == f"by {winner}"
    assert said(found) == [f"caption: {high} and {low} differ; {high}'s is taken"]
    assert found.warnings[0].file == "a.wav"


@pytest.mark.parametrize(("low", "high"), list(itertools.combinations(LYRICS, 2)))
def test_the_later_lyrics_count_and_the_disagreement_is_said(tmp_path: Path, low: str, high: str) -> None:
    found = scanned(tmp_path, {"a.caption.txt": "x", low: LYRICS[low], high: LYRICS[high]})
    winner = {"a.lrc": "lrc", "a.txt": "text", "a.json": "json"}.get(high, "lyrics")
    assert only(found).prompt.lyrics == f"by {winner}"
    assert said(found) == [f"lyrics: {high} and {low} differ; {high}'s is taken"]


def test_values_that_disagree_are_shown(tmp_path: Path) -> None:
    files = {
        "a.txt": "caption: x\nbpm: 90\nkey: C major\nrepeat: 2",
        "a.json": '{"bpm": 97, "keyscale": "c MAJOR", "repeat": 3}',
        "keys.csv": "File,BPM,Key\na.wav,120,A minor\n",
    }
    found = scanned(tmp_path, files)
    song = only(found)
    assert (song.prompt.bpm, song.prompt.keyscale, song.repeat) == (120, "A minor", 3)
    assert said(found) == [
        "bpm: a.json says 97, a.txt says 90; a.json's is taken",
        "repeat: a.json says 3, a.txt says 2; a.json's is taken",
        "bpm: keys.csv says 120, a.json says 97; keys.csv's is taken",
        "keyscale: keys.csv says A minor, a.json says C major; keys.csv's is taken",
    ]


def test_agreement_is_silent_whatever_the_spelling(tmp_path: Path) -> None:
    files = {
        "a.caption.txt": "\ufeff the caption \r\n",
        "a.json": '{"caption": "the caption", "bpm": 97, "keyscale": "F♯ Minor", "timesignature": "3/4"}',
        "a.txt": "caption: the caption\nkey: f# minor\nsignature: 3\nbpm: 97.2\nlyrics: [instrumental]",
        "a.lyrics.txt": "[Instrumental]\r\n",
        "keys.csv": "File;BPM;Key\na.wav;97,0;F# minor\n",
    }
    found = scanned(tmp_path, files)
    assert only(found).prompt.bpm == 97 and said(found) == []


def test_fields_that_are_not_given_overrule_nothing(tmp_path: Path) -> None:
    files = {
        "a.txt": "caption: c\nbpm: 90\nlyrics: la",
        "a.json": '{"caption": null, "bpm": "N/A", "keyscale": ""}',
        "a.lyrics.txt": " \n",
        "keys.csv": "File,BPM,Caption\na.wav,,\n",
    }
    prompt = only(scanned(tmp_path, files)).prompt
    assert (prompt.caption, prompt.bpm, prompt.lyrics) == ("c", 90, "la")


def test_all_that_a_side_step_text_says(tmp_path: Path) -> None:
    text = "caption: c\ngenre: jazz\ncustom_tag: zz\nprompt_override: genre\nis_instrumental: true\nlyrics:\nla"
    found = scanned(tmp_path, {"a.txt": text})
    song = only(found)
    assert (song.genre, song.tag, song.override, song.prompt.lyrics) == ("jazz", "zz", Override.genre, INSTRUMENTAL)
    assert said(found) == ["is_instrumental is true: its lyrics are left out"]


def test_the_layout_of_v1(tmp_path: Path) -> None:
    found = scanned(tmp_path, {"a_prompt.txt": "pop, piano, 120 bpm", "a_lyrics.txt": "[verse]\nla"})
    assert (only(found).prompt.caption, only(found).prompt.lyrics) == ("pop, piano, 120 bpm", "[verse]\nla")


@pytest.mark.parametrize("kind", ["a_lyrics.txt", "a.lrc", "a.txt", "a.json", "a.lyrics.txt", "keys.csv"])
def test_times_are_taken_off_wherever_lyrics_stand(tmp_path: Path, kind: str) -> None:
    timed = {
        "a.txt": "caption: x\nlyrics:\n[00:01.00]la\n[00:02.00]lo",
        "a.json": '{"lyrics": "[00:01.00]la\\n[00:02.00]lo"}',
        "keys.csv": 'File,Lyrics\na.wav,"[00:01.00]la\n[00:02.00]lo"\n',
    }
    found = scanned(tmp_path, {"a_prompt.txt": "x", kind: timed.get(kind, "[00:01.00]la\n[00:02.00]lo")})
    assert only(found).prompt.lyrics == "la\nlo"


def test_the_same_lyrics_with_and_without_times_agree(tmp_path: Path) -> None:
    files = {"a.caption.txt": "x", "a.lyrics.txt": "[ar:Me]\n[Verse]\n[00:01.00]la", "a.lrc": "[00:02.00][Verse]\nla"}
    found = scanned(tmp_path, files)
    assert only(found).prompt.lyrics == "[Verse]\nla" and not said(found)


def test_sidecars_of_a_song_of_their_whole_name_are_that_songs(tmp_path: Path) -> None:
    names = ("a.wav", "a_lyrics.wav", "a_prompt.wav", "a.lyrics.wav")
    files = {
        "a.caption.txt": "of a",
        "a_lyrics.txt": "caption: of a_lyrics",
        "a_prompt.txt": "caption: of a_prompt",
        "a.lyrics.txt": "caption: of a.lyrics",
    }
    found = scanned(tmp_path, files, *names)
    assert {song.name: song.prompt.caption for song in found.songs} == {name: f"of {name[:-4]}" for name in names}
    assert {song.prompt.lyrics for song in found.songs} == {INSTRUMENTAL} and not found.warnings


def test_songs_that_share_their_sidecars_are_said(tmp_path: Path) -> None:
    found = scanned(tmp_path, {"a.caption.txt": "x"}, "a.wav", "a.mp3", "a.flac", "b.a.wav")
    assert [song.name for song in found.songs] == ["a.flac", "a.mp3", "a.wav"]
    assert [(one.file, one.what) for one in found.warnings] == [
        ("a.flac", "shares the files beside it with a.mp3, a.wav: all are taken as songs")
    ]


def test_a_fault_names_its_file_and_field(tmp_path: Path) -> None:
    files = {
        "a.txt": "caption: x\nbpm: fast",
        "a.json": '{"repeat": 0, "prompt_override": "tag"}',
        "keys.csv": "File,BPM\na.wav,900\n",
        "a.lrc": b"\xff",
    }
    found = scanned(tmp_path, files)
    assert not found.songs and [name for name, _ in found.unfit] == ["a.wav"]
    assert [fault.what for fault in found.faults] == [
        "a.lrc: is not UTF-8",
        "a.txt: bpm: must be a number from 30 to 300, got 'fast'",
        "a.json: repeat: must be a whole number, at least 1, got 0",
        "a.json: prompt_override: must be null, caption or genre, got 'tag'",
        "keys.csv: bpm: must be a number from 30 to 300, got '900'",
    ]


def test_tables_belong_to_their_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    scanned(tmp_path / "sub", {"a.caption.txt": "x", "keys.csv": "File,BPM\na.wav,90\n"})
    found = scanned(tmp_path, {"a.caption.txt": "x", "bad.csv": b"\xff", "odd.csv": "x\n1\n"})
    assert [song.prompt.bpm for song in found.songs] == [None, 90]
    assert [(one.file, one.what) for one in found.faults] == [("bad.csv", "is not UTF-8")]
    assert [one.file for one in found.warnings] == ["odd.csv"]


TIMED = "[ar:x]\n[Verse]\n[00:01.00]la\n[Chorus]\n[00:02.50]lo"


@pytest.mark.parametrize(
    ("files", "times"),
    [
        ({"a.lrc": TIMED}, (None, 1.0, None, 2.5)),
        ({"a.lyrics.txt": TIMED.removeprefix("[ar:x]\n").removeprefix("[Verse]\n")}, (1.0, None, 2.5)),
        ({"a.lrc": TIMED, "a.lyrics.txt": "[Verse]\nla\n[Chorus]\nlo"}, (None, 1.0, None, 2.5)),
        ({"a.lrc": TIMED, "a.lyrics.txt": "[Verse]\nla\n[Chorus]\nli"}, ()),
        ({"a_lyrics.txt": "something else", "a.lrc": TIMED}, (None, 1.0, None, 2.5)),
        ({"a.txt": "plain"}, ()),
    ],
)
def test_times_are_kept_where_the_lyrics_that_count_have_them(tmp_path, files, times) -> None:
    song = only(scanned(tmp_path, {"a.caption.txt": "x", **files}))
    assert song.times == times and "00:" not in song.prompt.lyrics
