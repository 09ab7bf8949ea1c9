"""CSV tables: any delimiter, any case, matched by file name, and nothing guessed."""

from pathlib import Path

import pytest

from acetrain.data.folder import walk
from acetrain.data.sidecars.tables import Tables

HEADER = "File,Artist,Title,BPM,Key,Camelot"


def tables(folder: Path, *songs: str, **contents: str | bytes) -> Tables:
    for name in songs:
        (folder / name).write_bytes(b"")
    for name, content in contents.items():
        (folder / f"{name}.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    (listing,) = walk(folder, lambda *_: None)
    return Tables.of(listing)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_form_is_read(tmp_path: Path, delimiter: str, mark: str, ending: str) -> None:
    lines = [HEADER + ",Caption", 'a.wav,,,190,D major,10B,"fast, loud"', "", "sub/b.wav,x,y,128,A minor,8A,"]
    rows = [line.replace(",", delimiter).replace(f"fast{delimiter}", "fast,") for line in lines]
    found = tables(tmp_path, "a.wav", "b.wav", keys=mark + ending.join(rows))
    row, said = found.row_of("a.wav")
    assert row and (row.table, row.line, said) == ("keys.csv", 2, [])
    assert (row.given["bpm"], row.given["keyscale"], row.given["caption"]) == ("190", "D major", "fast, loud")
    row, _ = found.row_of("b.wav")
    assert row and (row.line, row.given["bpm"]) == (4, "128")
    assert not found.faults and not found.warnings


def test_headers_in_any_case_and_order(tmp_path: Path) -> None:
    row, _ = tables(tmp_path, "a.wav", keys=" bpm ;FILE;Key\n 90 ; a.wav ;C major\n").row_of("a.wav")
    assert row and row.given == {"bpm": "90", "file": "a.wav", "keyscale": "C major"}


def test_the_header_alone_tells_the_delimiter(tmp_path: Path) -> None:
    row, _ = tables(tmp_path, "a.wav", keys="File,Caption\na.wav,slow; sad; piano; rain; tape\n").row_of("a.wav")
    assert row and row.given["caption"] == "slow; sad; piano; rain; tape"


def test_a_file_without_a_row_is_said(tmp_path: Path) -> None:
    found = tables(tmp_path, "a.wav", "b.wav", keys=f"{HEADER}\na.wav,,,90,,\n", more=HEADER)
    assert found.row_of("b.wav") == (None, ["keys.csv and more.csv: no row for it"])
    assert found.row_of("A.WAV")[0] is None


def test_rows_that_differ_are_not_taken(tmp_path: Path) -> None:
    found = tables(tmp_path, "a.wav", keys=f"{HEADER}\na.wav,,,90,,\na.wav,,,91,,\n")
    assert found.row_of("a.wav") == (
        None,
        ["2 rows for it that differ (keys.csv line 2, keys.csv line 3): none is taken"],
    )
    found = tables(tmp_path, "a.wav", keys=f"{HEADER}\na.wav,,,90,,\n", other=f"{HEADER}\na.wav,,,180,,\n")
    assert found.row_of("a.wav")[1] == [
        "2 rows for it that differ (keys.csv line 2, other.csv line 2): none is taken",
    ]


def test_rows_that_say_the_same_are_one(tmp_path: Path) -> None:
    found = tables(tmp_path, "a.wav", keys=f"{HEADER}\na.wav,,,90,F♯ Minor,\na.wav,x,,90.0,f# minor,11A\n")
    row, said = found.row_of("a.wav")
    assert row and row.line == 2 and said == []


def test_names_in_either_unicode_form_match(tmp_path: Path) -> None:
    row, _ = tables(tmp_path, "é.wav", keys=f"{HEADER}\ne\u0301.wav,,,90,,\n").row_of("é.wav")
    assert row and row.given["bpm"] == "90"


def test_rows_of_files_that_are_not_there_are_said(tmp_path: Path) -> None:
    found = tables(tmp_path, "a.wav", keys=f"{HEADER}\na.wav,,,90,,\nz.wav,,,90,,\ny.wav,,,90,,\n")
    assert found.warnings == [("keys.csv", "names 'y.wav' and 1 more, not in this folder")]


@pytest.mark.parametrize("content", ["x,y\n1,2\n", "", "\n\n", "just words"])
def test_a_table_of_something_else_is_said(tmp_path: Path, content: str) -> None:
    found = tables(tmp_path, "a.wav", other=content)
    assert found.warnings == [("other.csv", "has no column File, so it is not read")]
    assert found.row_of("a.wav") == (None, []) and not found.faults


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (HEADER.encode() + b"\n\xe9.wav,,,90,,\n", "is not UTF-8"),
        (HEADER.encode("utf-16"), "is not UTF-8"),
        (f'{HEADER}\n"a.wav,,,90,,\n'.encode(), "unexpected end of data"),
    ],
)
def test_what_cannot_be_read_is_a_fault(tmp_path: Path, content: bytes, why: str) -> None:
    assert tables(tmp_path, "a.wav", keys=content).faults == [("keys.csv", why)]
