"""Which files are a folder's samples, and what is said where the manifest is not right."""

import json
import shutil
from pathlib import Path

import pytest
from pickled import manifest

from acetrain.data.foreign.listing import list_samples, recorded_variant
from acetrain.errors import Refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three samples, one encoded by half, and files of other kinds."""
    folder = tmp_path / "tensors"
    folder.mkdir()
    for name in ("a.pt", "b.pt", "c d é.pt", "d.tmp.pt", "._a.pt", "a.wav", "e.pt.__writing__"):
        (folder / name).write_bytes(b"")
    (folder / "sub.pt").mkdir()
    return folder


HALF = "1 file: encoded by half (d.tmp.pt), left out"
ALL = ["a.pt", "b.pt", "c d é.pt"]


def names(folder: Path) -> list[str]:
    return [file.name for file in list_samples(folder).files]


def test_without_a_manifest_all_samples_of_the_folder_are_taken(folder: Path) -> None:
    assert names(folder) == ALL and list_samples(folder).notes == [HALF]


@pytest.mark.parametrize("form", ["{folder}/{name}", "{name}", "./{name}", ".\\{name}", "{folder}/../tensors/{name}"])
def test_listed_files_are_found_by_their_path(folder: Path, form: str) -> None:
    manifest(folder, [form.format(folder=folder, name=name) for name in ALL])
    assert names(folder) == ALL and list_samples(folder).notes == [HALF]


@pytest.mark.parametrize(
    "form", ["/home/ann/tensors/{name}", "./out/x/{name}", "C:\\Users\\Ann\\out\\{name}", "D:/x/{name}"]
)
def test_files_listed_elsewhere_are_taken_from_beside_the_manifest(folder: Path, form: str) -> None:
    manifest(folder, [form.format(name=name) for name in ALL])
    first = ascii(form.format(name="a.pt"))[1:-1]
    note = list_samples(folder).notes[1]
    assert names(folder) == ALL and note.startswith(f"3 files: listed in manifest.json in another place ({first}, ")
    assert note.endswith("), taken from beside it")


def test_files_of_another_folder_are_taken_as_listed(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    manifest(folder, [str(other / "a.pt"), str(folder / "b.pt"), str(folder / "c d é.pt")])
    found = list_samples(folder)
    assert [found.shown(file) for file in found.files] == [str(other / "a.pt"), "b.pt", "c d é.pt"]


def test_a_file_listed_twice_is_taken_once(folder: Path) -> None:
    manifest(folder, ["a.pt", "./a.pt", str(folder / "a.pt"), "b.pt", "c d é.pt"])
    assert names(folder) == ALL


def test_files_that_are_not_listed_are_left_out_and_said(folder: Path) -> None:
    manifest(folder, ["b.pt"])
    hint = "delete manifest.json to take every .pt file of the folder"
    assert names(folder) == ["b.pt"]
    assert list_samples(folder).notes[1:] == [
        f"2 files: not listed in manifest.json and left out (a.pt, c d é.pt; {hint})"
    ]


def test_a_manifest_that_is_out_of_date_is_said_and_the_folder_counts(folder: Path) -> None:
    manifest(folder, ["a.pt", "gone.pt", "/far/lost.pt"])
    assert names(folder) == ALL
    assert list_samples(folder).notes[1:] == [
        "2 files: listed in manifest.json and missing (gone.pt, /far/lost.pt)",
        "2 files: not listed in manifest.json, which is out of date, and taken (b.pt, c d é.pt)",
    ]
    manifest(folder, [])
    with pytest.raises(Refused, match=r"holds no \.pt file of samples"):
        list_samples(folder)


@pytest.mark.parametrize(
    "content",
    [*("{", "[]", "{}", '{"samples": "a.pt"}', '{"samples": [1]}', "\udcff"), pytest.param("[" * 200_000, id="deep")],
)
def test_a_manifest_that_is_none_is_said(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    assert names(folder) == ALL
    assert "manifest.json cannot be read (" in list_samples(folder).notes[1]


def test_a_wrong_number_is_said_and_a_mark_at_the_start_is_read(folder: Path) -> None:
    manifest(folder, ALL, num_samples=7)
    content = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert list_samples(folder).notes[1:] == ["manifest.json says 7 samples and lists 3"] and names(folder) == ALL


@pytest.mark.parametrize("entry", ["", ".", "..", "x" * 5000, "a\0.pt", "sub.pt", "a.pt/b", "\n\x1b[2J.pt"])
def test_entries_that_are_no_file_are_missing(folder: Path, entry: str) -> None:
    manifest(folder, [*ALL, entry])
    note = list_samples(folder).notes[1]
    assert (
        names(folder) == ALL and note.startswith("1 file: listed in manifest.json and missing") and note.isprintable()
    )


def test_what_holds_no_samples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, what in [
        ("none", "does not exist"),
        ("file", "is a file; a folder is needed"),
        ("empty", "holds no .pt"),
    ]:
        with pytest.raises(Refused, match=f"tensors: .*{name} {what}"):
            list_samples(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "variant"),
    [({"model_variant": "XL-Base"}, "xl_base"), ({"model_variant": 3}, ""), ({}, ""), ([], ""), (None, "")],
)
def test_the_variant_is_told_where_it_was_recorded(tmp_path: Path, content: object, variant: str) -> None:
    if content is not None:
        (tmp_path / "preprocess_meta.json").write_text(json.dumps(content))
    assert recorded_variant(tmp_path) == variant
