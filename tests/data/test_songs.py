"""Scanning: which files are songs, what stands beside them, and every fault by file."""

import os
import unicodedata
from pathlib import Path

import pytest

from acetrain.data.faults import Fault, report
from acetrain.data.prompt import INSTRUMENTAL
from acetrain.data.songs import scan
from acetrain.errors import Refused


def song(folder: Path, name: str, caption: str | None = "a song") -> Path:
    """An audio file as far as scanning is concerned."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"audio")
    if caption is not None:
        file.with_name(file.stem + ".caption.txt").write_text(caption, encoding="utf-8")
    return file


def faults(folder: Path) -> dict[str, str]:
    return {fault.file: fault.what for fault in scan(folder).faults}


def test_songs_come_in_order_of_name(songs_folder: Path) -> None:
    found = scan(songs_folder)
    assert [song.name for song in found.songs] == [
        "a.mp3",
        "a.wav",
        "b.flac",
        "c.ogg",
        "sub/d e.opus",
        "sub/é [x], y.wav",
    ]
    assert found.faults == []
    assert all(song.audio == songs_folder / song.name for song in found.songs)


def test_json_wins_over_the_caption_file(songs_folder: Path) -> None:
    prompts = {song.name: song.prompt for song in scan(songs_folder).songs}
    rich = prompts["b.flac"]
    assert (rich.caption, rich.bpm, rich.keyscale, rich.timesignature) == ("from json", 97, "F# minor", "3")
    assert (rich.lyrics, rich.language) == ("[verse]\n바다, 바다", "ko")
    plain = prompts["sub/d e.opus"]
    assert (plain.caption, plain.lyrics, plain.bpm) == ("a tone called d e", INSTRUMENTAL, None)


def test_a_json_without_a_caption_leaves_the_caption_file(tmp_path: Path) -> None:
    song(tmp_path, "a.wav", "from text")
    (tmp_path / "a.json").write_text('{"caption": null, "bpm": 99}')
    prompt = scan(tmp_path).songs[0].prompt
    assert (prompt.caption, prompt.bpm) == ("from text", 99)


def test_dots_marks_and_case_in_names_and_texts(tmp_path: Path) -> None:
    song(tmp_path, "my.song.v2.WAV", "\ufeffcaption\r\nline")
    (tmp_path / "my.song.v2.lyrics.txt").write_bytes(b"[verse]\r\nla")
    found = scan(tmp_path).songs
    assert [(item.name, item.prompt.caption, item.prompt.lyrics) for item in found] == [
        ("my.song.v2.WAV", "caption\nline", "[verse]\nla")
    ]


def test_hidden_files_and_other_files_are_not_songs(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    song(tmp_path, "._a.wav")
    song(tmp_path, ".trash/b.wav")
    (tmp_path / "cover.jpg").write_bytes(b"")
    (tmp_path / "cache" / "songs").mkdir(parents=True)
    (tmp_path / "cache" / "songs" / "a-1.safetensors").write_bytes(b"")
    assert [item.name for item in scan(tmp_path).songs] == ["a.wav"]


@pytest.mark.parametrize(
    ("sidecar", "content", "message"),
    [
        (".caption.txt", b"\xff\xfe", "a.caption.txt: is not UTF-8"),
        (".lyrics.txt", b"\xe9t\xe9", "a.lyrics.txt: is not UTF-8"),
        (".json", b'{"bpm": 20}', "a.json: bpm: must be a number from 30 to 300, got 20"),
        (".json", b'{"bpm": ', "a.json: Expecting value"),
        (".json", b'["caption"]', "a.json: not a JSON object"),
        (".json", b'{"keyscal": "C major"}', "a.json: unknown key 'keyscal'; nearest: keyscale"),
        (".json", b'{"caption": 7}', "a.json: caption: must be text, got 7"),
    ],
)
def test_a_broken_sidecar_is_a_fault(tmp_path: Path, sidecar: str, content: bytes, message: str) -> None:
    song(tmp_path, "a.wav")
    (tmp_path / f"a{sidecar}").write_bytes(content)
    assert faults(tmp_path)["a.wav"].startswith(message)


def test_keys_of_other_tools_are_left_alone(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    (tmp_path / "a.json").write_text('{"genre": "pop", "duration": 12, "id": "x", "title": null}')
    assert not scan(tmp_path).faults


def test_every_fault_of_every_song_is_found(tmp_path: Path) -> None:
    song(tmp_path, "good.wav")
    song(tmp_path, "silent.wav", caption=None)
    song(tmp_path, "blank.wav", caption=" \n")
    song(tmp_path, "two.wav").with_name("two.json").write_text('{"bpm": 1, "language": "klingon!"}')
    assert faults(tmp_path) == {
        "silent.wav": "no caption (write silent.caption.txt)",
        "blank.wav": "no caption (write blank.caption.txt)",
        "two.wav": "two.json: language: must be a code like en, ko or unknown, got 'klingon!'",
    }
    assert report(scan(tmp_path).faults)[2].startswith(
        "  two.wav: two.json: bpm: must be a number from 30 to 300, got 1; two.json: language:"
    )


def test_names_that_cannot_be_written_down_are_a_fault(tmp_path: Path) -> None:
    song(tmp_path, "a\tb.wav")
    song(tmp_path, "노래\u3000(1).wav")
    (tmp_path / os.fsdecode(b"\xff.wav")).write_bytes(b"")
    assert sorted(faults(tmp_path)) == ["\\udcff.wav", "a\\tb.wav"]


def test_all_of_many_faults_are_told() -> None:
    lines = report([Fault(f"{index:03}.wav", "no caption") for index in reversed(range(300))])
    assert lines == [f"  {index:03}.wav: no caption" for index in range(300)]


def test_a_source_without_songs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(Refused, match=r"holds no audio\nread are .aac, .aif, .aiff, .flac"):
        scan(tmp_path)
    with pytest.raises(Refused, match="none does not exist"):
        scan(tmp_path / "none")
    with pytest.raises(Refused, match=r"notes.txt is neither a folder nor a dataset.json"):
        scan(tmp_path / "notes.txt")


def test_a_name_is_the_same_however_a_file_system_spells_its_accents(tmp_path: Path) -> None:
    names = []
    for form in ("NFC", "NFD"):
        song(tmp_path / form, unicodedata.normalize(form, "Ré/é.wav"))
        found = scan(tmp_path / form)
        names.append([song.name for song in found.songs])
        assert found.faults == [] and found.songs[0].audio.is_file()
    assert names == [["Ré/é.wav"]] * 2


def test_two_files_of_a_name_but_for_how_its_accents_are_spelt_are_told_apart(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        song(tmp_path, unicodedata.normalize(form, "é.wav"))
    assert [song.name for song in scan(tmp_path).songs] == ["é.wav"]
    told = "'e\\u0301.wav' beside it has the same name, its accents spelt otherwise; rename one"
    assert faults(tmp_path) == {"é.wav": told}
