"""Two hundred songs with thirty things wrong: scan tells those thirty, by file and kind, and nothing else."""

import json
import re
from pathlib import Path

import pytest
from runs import Done, acetrain
from two_hundred import FAULTS, SONGS, WARNINGS, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("two hundred"))


@pytest.fixture(scope="module")
def scanned(folder) -> Done:
    return acetrain("scan", f"songs={folder}", "--json")


@pytest.fixture(scope="module")
def found(scanned) -> dict:
    return json.loads(scanned.stdout)


def named(planted: dict) -> dict[str, str]:
    """Name as it is shown -> what is said."""
    return {name.replace("\n", "\\n"): what for name, (what, _) in planted.items()}


def test_thirty_are_planted_in_two_hundred(found):
    assert len(FAULTS) + len(WARNINGS) == 30
    assert found["totals"]["files"] == SONGS


@pytest.mark.parametrize(("planted", "list_"), [(FAULTS, "faults"), (WARNINGS, "warnings")], ids=["faults", "warnings"])
def test_what_is_told_is_what_was_planted(found, planted, list_):
    told = {one["file"]: one["what"] for one in found[list_]}
    assert len(told) == len(found[list_]), "a file was told of twice"
    expected = named(planted)
    assert set(told) == set(expected)
    assert {file: what for file, what in told.items() if not re.search(expected[file], what)} == {}


def test_all_other_songs_can_be_used(found, scanned):
    assert scanned.returncode == 1
    assert found["totals"]["usable"] == SONGS - len(FAULTS)
    assert f"songs: {len(FAULTS)} of {SONGS} in " in scanned.stderr
