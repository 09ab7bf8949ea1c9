"""`acetrain scan` from the command line: what it prints where, its exit codes, and that it leaves songs alone."""

import json
import re
import shutil
import threading
from pathlib import Path

import pytest
from tones import write_tone

from acetrain.cli import main
from acetrain.data.songs import scan
from acetrain.data.survey import collect
from acetrain.errors import Refused

BAD: list[tuple[str, str]] = [
    ("scan", r"songs: must be given, text"),
    ("scan songs=", r"songs: must be a folder or a dataset.json, got ''"),
    ("scan songs=nowhere", r"songs: nowhere does not exist"),
    ("scan songs=empty", r"songs: empty holds no audio\nread are "),
    ("scan songs=tones workers=0", r"workers: must be at least 1, got 0"),
    ("scan songs=tones json=maybe", r"json: must be true or false, got 'maybe'"),
    ("scan songs=tones --json=yes", r"--json=yes: there is no such flag"),
    ("scan songs=tones cache=x", r"cache: there is no such key \(Scan\); valid: .*json"),
    ("scan songs=tones experiment=short_run", r"experiment: scan has no experiments/"),
    ("synthesize out_dir=x --json", r"json: there is no such key \(Synthesize\)"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with one good song in `tones`, and nothing in `empty`."""
    write_tone(tmp_path / "tones/tone.wav", 1.0)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[arguments for arguments, _ in BAD])
def test_it_is_refused_with_its_message_and_nothing_is_written(arguments, message, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(arguments.split(" ")) == 2
    printed = capsys.readouterr()
    assert re.match(message, printed.err), printed.err
    assert printed.out == ""
    assert sorted(folder.rglob("*")) == before


def test_songs_without_a_fault_are_a_success(songs_folder, capsys):
    assert main(["scan", f"songs={songs_folder}"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:7]] == [song.name for song in scan(songs_folder).songs]
    assert re.search(r"^b\.flac +0:02 +from json +1 lines? +97 +F# minor +short", printed.out, re.MULTILINE)
    assert "\x1b" not in printed.out
    assert printed.err == "decoding: 6/6\n"


def test_a_fault_ends_with_one_after_all_is_told(folder, capsys):
    (folder / "tones/zero.wav").write_bytes(b"")
    assert main(["scan", "songs=tones"]) == 1
    printed = capsys.readouterr()
    assert "problems (2 in 1 files)" in printed.out
    assert "advice (" in printed.out
    assert printed.err.splitlines()[-1] == "songs: 1 of 2 in tones cannot be used"


@pytest.mark.parametrize("asked", [["--json"], ["json=true"], ["--json", "json=true"]])
def test_json_is_all_there_is_on_stdout(asked, folder, capsys):
    (folder / "tones/zero.wav").write_bytes(b"")
    assert main(["scan", "songs=tones", *asked]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [file["file"] for file in found["files"]] == ["tone.wav", "zero.wav"]
    assert found["files"][0]["prompt"]["caption"] == "a tone called tone"
    assert found["files"][1]["faults"] == ["no caption (write zero.caption.txt)", "is empty"]
    assert "cannot be used" in printed.err


def test_the_songs_are_not_touched(songs_folder, tmp_path):
    songs = Path(shutil.copytree(songs_folder, tmp_path / "songs"))
    before = {path: path.stat().st_mtime_ns for path in songs.rglob("*")}
    main(["scan", f"songs={songs}"])
    assert {path: path.stat().st_mtime_ns for path in songs.rglob("*")} == before


def test_any_number_of_workers_finds_the_same(songs_folder):
    one, many = (collect.survey(scan(songs_folder), workers, lambda: None) for workers in (1, 5))
    assert one == many


def test_faults_of_text_and_audio_come_together(folder):
    (folder / "tones/both.wav").write_text("not a sound")
    (folder / "tones/both.json").write_text('{"caption": "x", "bpm": 400}')
    (row,) = collect.survey(scan(folder / "tones"), 1, lambda: None).faulty
    assert (row.prompt, row.audio) == (None, None)
    assert [what.split(" ")[0] for what in row.faults] == ["bpm:", "cannot"]


def test_an_interruption_decodes_nothing_more(songs_folder, monkeypatch):
    started, release = [], threading.Event()

    def slow(file: Path, shortest: float):
        started.append(file)
        if len(started) > 1:
            release.wait(5)
        raise Refused("no")

    def interrupt() -> None:
        release.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "measure", slow)
    with pytest.raises(KeyboardInterrupt):
        collect.survey(scan(songs_folder), 1, interrupt)
    assert len(started) < 6
