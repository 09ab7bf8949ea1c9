"""Folders of songs as they come: what is broken is refused by file and reason, and nothing is created."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acetrain.cli import main
from acetrain.data.songs import scan


def _tone(file: Path, seconds: float = 1.0, rate: int = 16000) -> Path:
    soundfile.write(file, 0.3 * np.sin(np.arange(round(seconds * rate)) / 9), rate)
    return file


def _mp3(file: Path, keep: float) -> None:
    """A song of which only a share of the bytes is there."""
    _tone(file, 20)
    file.write_bytes(file.read_bytes()[: round(keep * file.stat().st_size)])


FILES: dict[str, str | bytes] = {
    "text/a.wav": "these are words",
    "text/a.caption.txt": "x",
    "nothing/a.wav": "",
    "nothing/a.caption.txt": "x",
    "nothing/b.mp3": "",
    "nothing/b.caption.txt": "x",
    "nothing/c.m4a": "",
    "nothing/c.caption.txt": "x",
    "latin/caption/a.caption.txt": b"\xe9t\xe9",
    "latin/lyrics/a.lyrics.txt": b"\xe9t\xe9",
    "latin/text/a.txt": b"\xe9t\xe9",
    "latin/v1/a_prompt.txt": b"\xe9t\xe9",
    "latin/lrc/a.lrc": b"[00:01.00]\xe9t\xe9",
    "latin/json/a.json": b'{"caption": "\xe9t\xe9"}',
    "latin/csv/a.csv": b"File,BPM\n\xe9.wav,90\n",
    "latin/utf16/a.caption.txt": "a song".encode("utf-16"),
    "json/list/a.json": "[1]",
    "json/cut/a.json": '{"bpm": 9',
    "json/deep/a.json": "[" * 100_000,
    "json/nan/a.json": '{"caption": "x", "bpm": NaN}',
    "json/digits/a.json": '{"caption": "x", "bpm": ' + "9" * 5000 + "}",
    "json/misspelt/a.json": '{"captoin": "x"}',
    "json/repeat/a.json": '{"caption": "x", "repeat": 0}',
    "json/override/a.json": '{"caption": "x", "prompt_override": "tag"}',
    "side_step/a.txt": "caption: x\nbpm: fast\nsignature: 5/4",
    "csv/cut/a.csv": 'File,BPM\n"a.wav,90\n',
    "csv/value/a.csv": "File,BPM,Caption\na.wav,900,x\n",
    "several/a.json": '{"bpm": 20, "keyscale": "H"}',
    "dataset/latin.json": b'{"samples": [], "metadata": {"name": "\xe9"}}',
    "dataset/deep.json": "[" * 100_000,
    "dataset/position.json": '{"metadata": {"tag_position": "front"}, "samples": []}',
    "dataset/ratio.json": '{"dataset_name": "x", "genre_ratio": 150, "samples": []}',
    "dataset/empty.json": '{"metadata": {}, "samples": []}',
    "dataset/absent.json": '{"metadata": {}, "samples": [{"audio_path": "z.wav", "caption": "x"}]}',
    "dataset/genre.json": json.dumps({"samples": [{"filename": "a.wav", "caption": "x", "prompt_override": "genre"}]}),
}
"""What lies in the working directory; folders whose sidecars are broken get a good `a.wav`."""

TABLE: list[tuple[str, str]] = [
    ("songs=cut", r"  a.mp3: is cut short: \d+\.\d of 20.0 s are there\n  b.mp3: cannot be decoded"),
    ("songs=text", r"  a.wav: cannot be decoded \(.*\)"),
    ("songs=nothing", r"  a.wav: is empty\n  b.mp3: is empty\n  c.m4a: is empty"),
    ("songs=long", r"  a.wav: lasts 601 s, the longest song is 600 s \(max_duration=600 crops it\)"),
    ("songs=short max_duration=0.01", r"  a.wav: lasts 0.010 s, the shortest song is "),
    ("songs=latin/caption", r"  a.wav: a.caption.txt: is not UTF-8\n"),
    ("songs=latin/lyrics", r"  a.wav: a.lyrics.txt: is not UTF-8"),
    ("songs=latin/text", r"  a.wav: a.txt: is not UTF-8"),
    ("songs=latin/v1", r"  a.wav: a_prompt.txt: is not UTF-8"),
    ("songs=latin/lrc", r"  a.wav: a.lrc: is not UTF-8"),
    ("songs=latin/json", r"  a.wav: a.json: is not UTF-8"),
    ("songs=latin/csv", r"  a.csv: is not UTF-8"),
    ("songs=latin/utf16", r"  a.wav: a.caption.txt: is not UTF-8"),
    ("songs=json/list", r"  a.wav: a.json: not a JSON object"),
    ("songs=json/cut", r"  a.wav: a.json: Expecting"),
    ("songs=json/deep", r"  a.wav: a.json: is nested too deeply"),
    ("songs=json/nan", r"  a.wav: a.json: bpm: must be a number from 30 to 300, got nan"),
    ("songs=json/digits", r"  a.wav: a.json: Exceeds the limit"),
    ("songs=json/misspelt", r"  a.wav: a.json: unknown key 'captoin'; nearest: caption"),
    ("songs=json/repeat", r"  a.wav: a.json: repeat: must be a whole number, at least 1, got 0"),
    ("songs=json/override", r"  a.wav: a.json: prompt_override: must be null, caption or genre, got 'tag'"),
    (
        "songs=side_step",
        r"  a.wav: a.txt: bpm: must be a number from 30 to 300, got 'fast'; a.txt: timesignature: must be one of",
    ),
    ("songs=csv/cut", r"  a.csv: unexpected end of data\n  a.wav: no caption"),
    ("songs=csv/value", r"  a.wav: a.csv: bpm: must be a number from 30 to 300, got '900'"),
    ("songs=several", r"  a.wav: a.json: bpm: .*; a.json: keyscale: .*; no caption \(write a.caption.txt\)"),
    ("songs=links", r"  a.wav: is no file; where it is a link, it leads nowhere"),
    ("songs=loop", r"songs: loop holds no audio"),
    ("songs=inner/loop", r"songs: inner/loop holds no audio"),
    ("songs=dataset/latin.json", r"songs: dataset/latin.json is not UTF-8"),
    ("songs=dataset/deep.json", r"songs: dataset/deep.json is not a dataset .*nested too deeply"),
    ("songs=dataset/position.json", r"songs: dataset/position.json: tag_position: there is no 'front'; valid: append,"),
    (
        "songs=dataset/ratio.json",
        r"songs: dataset/ratio.json: genre_ratio: must be a percentage from 0 to 100",
    ),
    ("songs=dataset/empty.json", r"songs: dataset/empty.json holds no audio"),
    ("songs=dataset/absent.json", r"  absent.json, sample 0: audio_path 'z.wav' is no file that can be read"),
    ("songs=dataset/genre.json", r"  a.wav: prompt_override is genre, and it has none"),
    ("songs=x max_duration=0", r"max_duration: must be above 0 and at most 600, or null, got 0.0"),
    ("songs=x max_duration=601", r"max_duration: must be above 0 and at most 600, or null, got 601.0"),
    ("songs=x prompts=as_writen", r"prompts: there is no option 'as_writen'; nearest: as_written"),
    (
        "songs=x prompts.tag_position=front",
        r"prompts.tag_position: must be one of prepend, append, replace, or null",
    ),
    ("songs=x prompts.genre_ratio=101", r"prompts.genre_ratio: must be from 0 to 100, or null, got 101"),
    ("songs=x prompts.skip_metas=maybe", r"prompts.skip_metas: must be true or false, got 'maybe'"),
]
"""What is asked of `acetrain preprocess cache=made`, and what stderr must start with, but for warnings."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working directory of every request."""
    here = tmp_path_factory.mktemp("broken")
    for name, content in FILES.items():
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        if not (file.parent / "a.wav").exists():
            _tone(file.parent / "a.wav")
    for name in ("cut", "long", "short", "links", "loop", "inner/loop"):
        (here / name).mkdir(parents=True)
    _mp3(here / "cut" / "a.mp3", 0.5)
    _mp3(here / "cut" / "b.mp3", 0.001)
    _tone(here / "long" / "a.wav", 601, 400)
    _tone(here / "short" / "a.wav")
    for name in ("cut/a", "cut/b", "long/a", "short/a", "links/a"):
        (here / f"{name}.caption.txt").write_text("x")
    (here / "links" / "a.wav").symlink_to("a.wav")
    (here / "loop" / "again").symlink_to(".")
    (here / "inner" / "loop" / "up").symlink_to("../..")
    return here


def _state(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize(("asked", "message"), TABLE, ids=[asked for asked, _ in TABLE])
def test_it_is_refused_by_file_and_reason_and_nothing_is_created(asked, message, folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    before = _state(folder)
    code = main(["preprocess", "cache=made", *asked.split(" ")])
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning:")]
    assert re.match(message, "\n".join(lines)), lines
    assert code == 2 and len(lines) <= 4
    assert _state(folder) == before


def test_the_table_is_long_enough() -> None:
    assert len({asked for asked, _ in TABLE}) == len(TABLE) >= 40


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_are_no_fault(tmp_path: Path, mark: str, ending: str) -> None:
    contents = {
        "a.caption.txt": "a song\n",
        "a.lyrics.txt": "[Verse]\nla\n",
        "a.json": '{\n"bpm": 97\n}\n',
        "keys.csv": "File,BPM,Key\na.wav,97,C major\n",
        "b.txt": "caption: b\nkey: A minor\nlyrics:\nlo\nla\n",
        "c_prompt.txt": "c\n",
        "c.lrc": "[ar:Me]\n[00:01.00]la\n[00:02.00]lo\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes((mark + content.replace("\n", ending)).encode())
    for name in "abc":
        (tmp_path / f"{name}.wav").write_bytes(b"")
    found = scan(tmp_path)
    assert not found.faults
    assert [warning.what for warning in found.warnings] == ["keys.csv: no row for it"] * 2
    texts = [(song.prompt.caption, song.prompt.lyrics, song.prompt.keyscale) for song in found.songs]
    assert texts == [("a song", "[Verse]\nla", "C major"), ("b", "lo\nla", "A minor"), ("c", "la\nlo", "")]


def seconds_of_a_scan(root: Path, songs: int, folders: int) -> float:
    """CPU time that so many songs in so many folders take."""
    names = [os.path.join(str(root), f"{index % folders}", f"{index}") for index in range(songs)]
    for place in {os.path.dirname(name) for name in names}:
        os.makedirs(place)
    for name in names:
        for ending, content in ((".mp3", ""), (".caption.txt", "a song")):
            with open(name + ending, "w") as file:
                file.write(content)
    start = time.process_time()
    found = scan(root)
    taken = time.process_time() - start
    assert len(found.songs) == songs and not found.faults and not found.warnings
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("folders", [1, 1000])
def test_a_hundred_thousand_files_take_no_longer_each_than_ten_thousand(tmp_path: Path, folders: int) -> None:
    few = seconds_of_a_scan(tmp_path / "few", 5_000, folders)
    assert seconds_of_a_scan(tmp_path / "many", 50_000, folders) < 30 * few  # looked at in pairs, it would be 100
