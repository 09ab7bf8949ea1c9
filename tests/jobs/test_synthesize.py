import subprocess
import sys
from pathlib import Path

import pytest

from acetrain.errors import Refused
from acetrain.jobs.synthesize import Synthesize


def job(folder: Path, count: int = 2, style: str = "mix", seed: int = 0, longest: float = 5.0) -> Synthesize:
    return Synthesize(str(folder), count, style, 4.0, longest, seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_songs_do_not_depend_on_how_many_there_are(tmp_path: Path):
    job(tmp_path / "two").run()
    job(tmp_path / "three", count=3).run()
    two, three = contents(tmp_path / "two"), contents(tmp_path / "three")
    assert len(two) == 8
    assert two == {name: data for name, data in three.items() if not name.startswith("0002")}


def test_another_seed_gives_other_songs(tmp_path: Path):
    job(tmp_path / "a", count=1).run()
    job(tmp_path / "b", count=1, seed=1).run()
    assert contents(tmp_path / "a")["0000-chiptune.wav"] != contents(tmp_path / "b")["0000-chiptune.wav"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count: must be at least 1, got 0"),
        ({"style": "chiptoon"}, "style: 'chiptoon' is no style; nearest: chiptune"),
        ({"longest": 3.0}, "max_seconds: must be from min_seconds (4) to 60, got 3.0"),
    ],
)
def test_bad_fields_are_refused(tmp_path: Path, change: dict, message: str):
    with pytest.raises(Refused) as error:
        job(tmp_path / "songs", **change)
    assert str(error.value) == message


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="is not empty"):
        job(tmp_path).check()
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path):
    (tmp_path / "songs").write_text("")
    with pytest.raises(Refused, match="is a file"):
        job(tmp_path / "songs").check()


def test_an_empty_or_absent_folder_is_fine(tmp_path: Path):
    job(tmp_path).check()
    job(tmp_path / "absent" / "songs").check()
    assert contents(tmp_path) == {}


def test_the_job_loads_without_what_makes_sound():
    heavy = "import sys, acetrain.jobs.synthesize; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
