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
    ("scan songs=tones output=list.txt", r"output: must be a \.json file, or empty, got 'list.txt'"),
    ("scan songs=tones output=tones/tone.wav/x.json", r"output: tones/tone.wav is a file; a folder is needed"),
    ("scan songs=tones output=folder.json", r"output: must be a file, not a folder, got 'folder.json'"),
    ("scan songs=tones prompts.genre_ratio=101", r"prompts.genre_ratio: must be from 0 to 100"),
    ("scan songs=tones prompts=as_writen", r"prompts: there is no option 'as_writen'; nearest: as_written"),
    ("scan songs=tones max_duration=601", r"max_duration: must be above 0 and at most 600, or null, got 601.0"),
    ("scan songs=tones workers=0", r"workers: must be at least 1, got 0"),
    ("scan songs=tones json=maybe", r"json: must be true or false, got 'maybe'"),
    ("scan songs=tones --json=yes", r"--json=yes: there is no such flag"),
    ("scan songs=tones cache=x", r"cache: there is no such key \(Scan\); valid: .*json"),
    ("scan -m songs=tones output=x.json workers=1,2", r"output: must differ between jobs, 1 and 2 would both write x"),
    ("scan songs=tones experiment=short_run", r"experiment: scan has no experiments/"),
    ("synthesize out_dir=x --json", r"json: there is no such key \(Synthesize\)"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with one good song in `tones`, and nothing in `empty`."""
    write_tone(tmp_path / "tones/tone.wav", 1.0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.json").mkdir()
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
    assert "problems (2 in 1 of 2)" in printed.out
    assert "advice (" in printed.out
    assert printed.err.splitlines()[-1] == "songs: 1 of 2 in tones cannot be used"


@pytest.mark.parametrize("asked", [["--json"], ["json=true"], ["--json", "json=true"]])
def test_json_is_all_there_is_on_stdout(asked, folder, capsys):
    (folder / "tones/zero.wav").write_bytes(b"")
    assert main(["scan", "songs=tones", *asked]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [file["file"] for file in found["files"]] == ["tone.wav", "zero.wav"]
    assert found["files"][0]["text"]["caption"] == "a tone called tone"
    assert found["files"][1]["faults"] == ["no caption (write zero.caption.txt)", "is empty"]
    assert "cannot be used" in printed.err


def test_the_songs_are_not_touched(songs_folder, tmp_path):
    songs = Path(shutil.copytree(songs_folder, tmp_path / "songs"))
    before = {path: path.stat().st_mtime_ns for path in songs.rglob("*")}
    main(["scan", f"songs={songs}"])
    assert {path: path.stat().st_mtime_ns for path in songs.rglob("*")} == before


def samples(dataset: Path) -> list[dict]:
    return json.loads(dataset.read_text(encoding="utf-8"))["samples"]


def test_a_dataset_json_is_written_and_scanned_to_the_same_songs(songs_folder, tmp_path, capsys):
    songs = Path(shutil.copytree(songs_folder, tmp_path / "songs"))
    dataset = songs / "dataset.json"
    assert main(["scan", f"songs={songs}", f"output={dataset}", "prompts.tag=mytone24"]) == 0
    assert f"output: {dataset} (6 songs)" in capsys.readouterr().out
    assert [(one["audio_path"], one["duration"]) for one in samples(dataset)][2:4] == [("b.flac", 2), ("c.ogg", 1)]
    again, before = scan(dataset), scan(songs)
    assert [(song.name, song.prompt) for song in again.songs] == [(song.name, song.prompt) for song in before.songs]
    assert (again.settings.tag, again.faults, again.warnings) == ("mytone24", [], [])
    first = json.loads(scanned(capsys, f"songs={songs}", "prompts.tag=mytone24"))
    second = json.loads(scanned(capsys, f"songs={dataset}"))
    assert [first[key] for key in ("files", "totals")] == [second[key] for key in ("files", "totals")]


def scanned(capsys, *arguments: str) -> str:
    main(["scan", "--json", *arguments])
    return capsys.readouterr().out


def test_an_output_that_says_the_same_stays_and_another_is_not_replaced_unasked(folder, capsys):
    asked = ["scan", "songs=tones", "output=out/data.json"]
    assert main(asked) == main(asked) == 0
    before = Path("out/data.json").read_bytes()
    (folder / "tones/tone.json").write_text('{"bpm": 99}')
    capsys.readouterr()
    assert main(asked) == 2
    printed = capsys.readouterr()
    assert printed.err.endswith(
        "output: out/data.json is there already and says something else; overwrite=true replaces it\n"
    )
    assert "tone.wav" in printed.out
    assert Path("out/data.json").read_bytes() == before
    assert [file.name for file in Path("out").iterdir()] == ["data.json"]
    assert main([*asked, "overwrite=true"]) == 0
    assert samples(Path("out/data.json"))[0]["bpm"] == 99


def test_songs_with_a_fault_are_left_out_of_the_output(folder, capsys):
    (folder / "tones/zero.wav").write_bytes(b"")
    assert main(["scan", "songs=tones", "output=data.json", "--json"]) == 1
    assert [one["filename"] for one in samples(Path("data.json"))] == ["tone.wav"]
    assert "output: data.json (1 songs)" in capsys.readouterr().err


def test_nothing_is_written_where_no_song_can_be_used(folder):
    (folder / "tones/tone.wav").write_bytes(b"")
    assert main(["scan", "songs=tones", "output=new/data.json"]) == 1
    assert not Path("new").exists()


def test_prompts_decide_what_is_a_fault_and_what_is_advised(folder, capsys):
    write_tone(folder / "bare/a.wav", 1.0)
    (folder / "bare/a.caption.txt").unlink()
    assert main(["scan", "songs=bare"]) == 1
    assert main(["scan", "songs=bare", "prompts.tag=Jazz!", "prompts.tag_position=replace"]) == 0
    out = capsys.readouterr().out
    assert "the activation tag 'Jazz!' has characters other than letters and digits and has capital letters" in out
    assert "a tag alone, in place of the caption: 1 of 1 songs" in out


def test_songs_are_looked_at_up_to_where_they_are_cropped(folder, capsys):
    write_tone(folder / "tones/long.flac", 601.0, rate=8000, channels=1)
    assert "lasts 601 s, the longest song is 600 s" in scanned(capsys, "songs=tones")
    found = json.loads(scanned(capsys, "songs=tones", "max_duration=2"))
    assert [file["audio"]["seconds"] for file in found["files"]] == [2.0, 1.0]


def test_the_tag_that_is_asked_for_counts_over_those_of_single_songs(folder, capsys):
    (folder / "tones/tone.json").write_text('{"custom_tag": "Old!"}')
    told = {one["rule"]: one["what"] for one in json.loads(scanned(capsys, "songs=tones"))["advice"]}
    assert "'Old!'" in told["tag"]
    found = json.loads(scanned(capsys, "songs=tones", "prompts.tag=mytone24", "output=data.json"))
    assert "tag" not in [one["rule"] for one in found["advice"]]
    assert (scan(Path("data.json")).settings.tag, scan(Path("data.json")).songs[0].tag) == ("mytone24", "")


def test_any_number_of_workers_finds_the_same(songs_folder):
    one, many = (collect.survey(scan(songs_folder), None, workers, lambda: None) for workers in (1, 5))
    assert one == many


def test_faults_of_text_and_audio_come_together(folder):
    (folder / "tones/both.wav").write_text("not a sound")
    (folder / "tones/both.json").write_text('{"caption": "x", "bpm": 400}')
    (row,) = collect.survey(scan(folder / "tones"), None, 1, lambda: None).faulty
    assert (row.song, row.audio) == (None, None)
    assert [what.split(" ")[0] for what in row.faults] == ["both.json:", "cannot"]


def test_an_interruption_decodes_nothing_more(songs_folder, monkeypatch):
    started, release = [], threading.Event()

    def slow(file: Path, shortest: float, crop: float | None):
        started.append(file)
        if len(started) > 1:
            release.wait(5)
        raise Refused("no")

    def interrupt() -> None:
        release.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "measure", slow)
    with pytest.raises(KeyboardInterrupt):
        collect.survey(scan(songs_folder), None, 1, interrupt)
    assert len(started) < 6
