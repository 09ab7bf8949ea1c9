"""Two hundred songs with thirty things wrong: scan tells those thirty, by file and kind, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from two_hundred import FAULTS, KINDS, SONGS, WARNINGS, Facts, build

from acetrain.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("two hundred"))


@pytest.fixture(scope="module")
def scanned(folder) -> subprocess.CompletedProcess[str]:
    """By the real command line."""
    command = [sys.executable, "-m", "acetrain", "scan", f"songs={folder}", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


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


def test_the_page_lists_the_same_problems_and_warnings(folder, found, capsys):
    assert main(["scan", f"songs={folder}"]) == 1
    page = capsys.readouterr().out
    for list_, title in (("faults", r"problems \(26 in 26 of 200\)"), ("warnings", r"warnings \(4\)")):
        block = re.split(rf"\n{title}\n", page)[1].split("\n\n")[0]
        labels = [re.split(r"  +", line)[0] for line in block.splitlines() if not line.startswith(" ")]
        assert labels == sorted({one["file"] for one in found[list_]})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sidecar_gives_what_it_holds(found, kind):
    songs = [one for one in found["files"] if re.match(rf"{kind}/\d", one["file"])]
    assert len(songs) >= 18
    for song in songs:
        facts = Facts.of(int(song["file"].split("/")[1][:3]))
        text = song["text"]
        assert text["caption"] == facts.caption
        if kind in ("official", "plain", "timed", "side step", "v1"):
            assert text["lyrics"] == (facts.lyrics or "[Instrumental]")
        if kind not in ("plain", "timed", "v1"):
            assert (text["bpm"], text["keyscale"]) == (facts.bpm, facts.keyscale.replace("♭", "b"))
        if kind in ("official", "json", "side step"):
            assert text["timesignature"] == facts.timesignature
        if kind in ("official", "json"):
            assert text["language"] == "ko"


def test_a_dataset_json_of_them_gives_the_same_songs(folder, found, tmp_path, capsys):
    dataset = tmp_path / "list.json"
    assert main(["scan", f"songs={folder}", f"output={dataset}"]) == 1
    capsys.readouterr()
    assert main(["scan", f"songs={dataset}", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    good = [one for one in found["files"] if not one["faults"]]
    assert [one["text"] for one in again["files"]] == [one["text"] for one in good]
    assert [one["audio"] for one in again["files"]] == [one["audio"] for one in good]
    assert (again["faults"], again["warnings"]) == ([], [])
