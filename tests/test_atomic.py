"""Law 10, second half: a killed writer leaves the old file or the new one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from acetrain.atomic import PARTIAL, clear, replacing, replacing_folder, write_text
from acetrain.errors import Failed


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(ValueError, match="half"), replacing(path) as temporary:
        temporary.write_text("new, ha")
        raise ValueError("half way")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    for content in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / content).mkdir()
            write_text(temporary / content / "file.txt", content)
            assert temporary.parent == path.parent and path.exists() == (content == "new")
    assert [file.name for file in path.iterdir()] == ["new"] and os.listdir(path.parent) == ["folder"]
    path.parent.joinpath("usual").mkdir()
    assert path.stat().st_mode == path.parent.joinpath("usual").stat().st_mode
    with pytest.raises(ValueError, match="half"), replacing_folder(path) as temporary:
        (temporary / "half").touch()
        raise ValueError("half way")
    assert [file.name for file in path.iterdir()] == ["new"] and len(os.listdir(path.parent)) == 2


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}a" / f"{PARTIAL}b").mkdir(parents=True)
    (tmp_path / f"{PARTIAL}c").touch()
    (tmp_path / "kept").touch()
    clear(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "theirs").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    program = (
        "import sys, itertools, pathlib; from acetrain.atomic import write_text\n"
        "for i in itertools.count(): write_text(pathlib.Path(sys.argv[1]), f'{i % 10}' * 200_000)"
    )
    for delay in (0.0, 0.01, 0.02, 0.05):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)])
        while not path.exists():
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        text = path.read_text()
        assert len(text) == 200_000 and len(set(text)) == 1


@pytest.fixture
def full():
    """Files of at most so many bytes, by the system's own limit, until the test ends."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tensors(path: Path) -> None:
    save_file({"a": torch.zeros(2**18)}, path)


def pickled(path: Path) -> None:
    torch.save({"a": torch.zeros(2**18)}, path)


def text(path: Path) -> None:
    path.write_text("a" * 2**20)


@pytest.mark.parametrize("write", [tensors, pickled, text])
def test_storage_that_is_full_is_one_line_and_loses_nothing(tmp_path: Path, full, write) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    full(2**19)
    told = f"{path}: cannot be written: .*; what was written before is whole"
    with pytest.raises(Failed, match=told), replacing(path) as temporary:
        write(temporary)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_storage_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot be written: No such file or directory"):
        write_text(tmp_path / "gone" / "file", "new")


def test_other_errors_are_not_taken_for_the_storage(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "file"):
        raise RuntimeError("mine")
