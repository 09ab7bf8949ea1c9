"""dataset.json: both forms are read, the first is written, and what is written scans to the same songs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tones import write_tone

from acetrain.data.dataset_json import write_dataset
from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.data.songs import Scan, Song, scan
from acetrain.data.wording import Override, Settings, TagPosition
from acetrain.errors import Refused


def song(folder: Path, name: str, caption: str | None = None) -> Path:
    """An audio file as far as scanning is concerned."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"audio")
    if caption is not None:
        file.with_suffix(".caption.txt").write_text(caption)
    return file


def faults(file: Path) -> dict[str, str]:
    return {fault.file: fault.what for fault in scan(file).faults}


def dataset(folder: Path, samples: list, **metadata: object) -> Path:
    file = folder / "dataset.json"
    file.write_text(json.dumps({"metadata": {"name": "x", **metadata}, "samples": samples}), encoding="utf-8")
    return file


def test_a_dataset_lists_songs_by_paths_relative_to_it(tmp_path: Path) -> None:
    song(tmp_path, "audio/b.wav")
    song(tmp_path, "a.flac", caption="not read")
    samples = [
        {"audio_path": "audio/b.wav", "caption": "second", "lyrics": "la", "bpm": 100, "genre": "pop", "duration": 9},
        {
            "audio_path": "/nowhere/a.flac",
            "filename": "a.flac",
            "caption": "first",
            "lyrics": "la",
            "is_instrumental": True,
        },
    ]
    found = scan(dataset(tmp_path, samples, custom_tag="", genre_ratio=0))
    assert found.faults == []
    assert [(item.name, item.prompt.caption, item.prompt.lyrics) for item in found.songs] == [
        ("a.flac", "first", INSTRUMENTAL),
        ("audio/b.wav", "second", "la"),
    ]


def test_faults_of_a_dataset_name_the_sample(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    song(tmp_path, "b.wav")
    song(tmp_path, "c.wav")
    samples = [
        {"audio_path": "a.wav", "caption": ""},
        {"audio_path": "none.wav", "caption": "x"},
        {"audio_path": "a.wav", "caption": "x"},
        "a.wav",
        {"filename": "b.wav", "caption": "x", "bpm": "fast"},
        {"filename": "c.wav", "captoin": "x", "repeat": 3},
    ]
    assert faults(dataset(tmp_path, samples)) == {
        "a.wav": "no caption (of dataset.json, sample 0)",
        "dataset.json, sample 1": "audio_path 'none.wav' is no file that can be read",
        "dataset.json, sample 2": "a.wav is listed twice",
        "dataset.json, sample 3": "audio_path 'a.wav' is no file that can be read",
        "b.wav": "bpm: must be a number from 30 to 300, got 'fast'",
        "c.wav": "unknown key 'captoin'; nearest: caption",
    }


@pytest.mark.parametrize("content", ["[]", "{}", '{"samples": 3}', "{", '{"metadata": [], "samples": []}'])
def test_what_is_not_a_dataset_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(Refused, match=r"songs: .*x.json"):
        scan(file)


def test_settings_of_the_official_form(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    song(tmp_path, "b.wav")
    settings = {"custom_tag": "zz", "tag_position": "append", "all_instrumental": True, "genre_ratio": 30}
    samples = [
        {"audio_path": "a.wav", "caption": "x", "custom_tag": "zz", "genre": "pop", "repeat": 3, "labeled": False},
        {"audio_path": "b.wav", "caption": "x", "custom_tag": "own", "prompt_override": "genre", "genre": "jazz"},
    ]
    found = scan(dataset(tmp_path, samples, **settings))
    assert found.settings == Settings("x", "zz", TagPosition.append, 30, True) and not found.faults
    one, two = found.songs
    assert (one.genre, one.repeat, one.tag, one.override) == ("pop", 3, "", None)
    assert (two.genre, two.repeat, two.tag, two.override) == ("jazz", 1, "own", Override.genre)


def test_the_older_form(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    sample = {
        "audio_path": "C:\\music\\a.wav",
        "caption": "myjazz, smooth jazz with saxophone",
        "lyrics": "[Instrumental]",
        "bpm": 90,
        "keyscale": "Bb Major",
        "timesignature": 4,
        "language": "unknown",
        "instrumental": True,
    }
    content = {"dataset_name": "d", "activation_tag": "myjazz", "tag_position": "prepend", "samples": [sample]}
    (tmp_path / "old.json").write_text(json.dumps(content))
    found = scan(tmp_path / "old.json")
    assert found.settings == Settings("d", "myjazz") and not found.faults and not found.warnings
    expected = Prompt(sample["caption"], INSTRUMENTAL, 90, "Bb major", "4", "unknown")
    assert found.songs == [Song("a.wav", tmp_path / "a.wav", expected)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tag_position": "before"}, r"tag_position: there is no 'before'; valid: append, prepend, replace"),
        ({"tag_position": "apend"}, r"tag_position: there is no 'apend'; nearest: append"),
        ({"genre_ratio": 101}, r"genre_ratio: must be a percentage from 0 to 100, got 101"),
        ({"genre_ratio": "half"}, r"genre_ratio: must be a percentage from 0 to 100, got 'half'"),
        ({"custom_tag": 7}, r"custom_tag: must be text, got 7"),
        ({"all_instrumental": "yes"}, r"all_instrumental: must be true or false, got 'yes'"),
    ],
)
def test_settings_that_break_their_rule_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    song(tmp_path, "a.wav")
    with pytest.raises(Refused, match=r"songs: .*dataset.json: " + message):
        scan(dataset(tmp_path, [{"audio_path": "a.wav", "caption": "x"}], **settings))


def test_nothing_but_a_tag_needs_no_caption(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    sample = {"audio_path": "a.wav", "caption": ""}
    assert faults(dataset(tmp_path, [sample], tag_position="replace"))
    assert not faults(dataset(tmp_path, [sample], tag_position="replace", custom_tag="zz"))
    assert faults(dataset(tmp_path, [sample], custom_tag="zz"))


def test_lyrics_of_an_instrumental_are_said(tmp_path: Path) -> None:
    song(tmp_path, "a.wav")
    sample = {"audio_path": "a.wav", "caption": "x", "is_instrumental": True, "lyrics": "la"}
    found = scan(dataset(tmp_path, [sample]))
    assert found.songs[0].prompt.lyrics == INSTRUMENTAL
    assert [one.what for one in found.warnings] == ["is_instrumental is true: its lyrics are left out"]


SETTINGS = Settings("my album", "zz", TagPosition.append, 25, False)


def test_what_is_written_scans_to_the_same_songs(songs_folder: Path, tmp_path: Path) -> None:
    found = scan(songs_folder)
    file = songs_folder / "dataset.json"
    try:
        write_dataset(file, found, Settings())
        assert scan(file).songs == found.songs
    finally:
        file.unlink()
    assert len(found.songs) == 6


def test_every_field_survives(tmp_path: Path) -> None:
    for name in ("a.wav", "sub/é.wav"):
        write_tone(tmp_path / name, 0.1)
    prompt = Prompt("a, caption", "[Verse]\n바다", 97, "F# minor", "3", "ko")
    plain = Prompt("b", INSTRUMENTAL, None, "", "", "en")
    songs = [
        Song("a.wav", tmp_path / "a.wav", prompt, "jazz", 3, "own", Override.caption),
        Song("sub/é.wav", tmp_path / "sub" / "é.wav", plain),
    ]
    write_dataset(tmp_path / "dataset.json", Scan(songs), SETTINGS, {"a.wav": 12.4})
    again = scan(tmp_path / "dataset.json")
    assert again.songs == songs and again.settings == SETTINGS and not again.faults and not again.warnings
    written = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert written["metadata"]["num_samples"] == 2 and written["metadata"]["tag_position"] == "append"
    one, two = written["samples"]
    assert (one["audio_path"], one["duration"], one["custom_tag"], one["is_instrumental"]) == (
        "a.wav",
        12,
        "own",
        False,
    )
    assert (two["audio_path"], two["duration"], two["custom_tag"], two["is_instrumental"]) == (
        "sub/é.wav",
        0,
        "zz",
        True,
    )
    assert one["id"] != two["id"] and two["prompt_override"] is None and one["prompt_override"] == "caption"


def test_it_may_lie_elsewhere(tmp_path: Path) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 0.1)
    (tmp_path / "lists").mkdir()
    found = scan(tmp_path / "songs")
    write_dataset(tmp_path / "lists" / "x.json", found, Settings())
    (again,) = scan(tmp_path / "lists" / "x.json").songs
    assert again.name == "../songs/a.wav" and again.audio.samefile(found.songs[0].audio)
    assert replace(again, name="a.wav", audio=found.songs[0].audio) == found.songs[0]
