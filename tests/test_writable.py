import os
from pathlib import Path

import pytest

from acetrain.errors import Refused
from acetrain.writable import writable_folder


@pytest.mark.parametrize("below", ["", "new", "new/deeper"])
def test_a_folder_or_one_to_be_made_is_fine_and_not_made(tmp_path: Path, below: str):
    writable_folder("out_dir", tmp_path / below)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    writable_folder("out_dir", "new")
    Path("file").write_text("")
    with pytest.raises(Refused, match="out_dir: file is a file; a folder is needed"):
        writable_folder("out_dir", "file")


@pytest.mark.parametrize("below", ["file", "file/new", "file/new/deeper", "dangling/new"])
def test_a_place_at_or_below_a_file_is_refused(tmp_path: Path, below: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"cache: .*(file|dangling) is a file; a folder is needed"):
        writable_folder("cache", tmp_path / below)


@pytest.mark.parametrize("below", ["", "new", "new/deeper"])
def test_a_place_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str):
    asked = os.access
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and asked(path, mode))
    with pytest.raises(Refused, match=r"out_dir: .*locked must be writable"):
        writable_folder("out_dir", locked / below)
