"""A request that must be refused: with its message, in at most four lines, and nothing changed on disk."""

import re
from pathlib import Path

import pytest

from acetrain.cli import main


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file and folder was changed, and what the files hold."""
    found = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in found}


def refused(
    arguments: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a command line, split at blanks, in `folder`; `message` is the start of what it is told."""
    monkeypatch.chdir(folder)
    before = state(folder)
    assert main(arguments.split(" ")) == 2
    told = capsys.readouterr().err
    assert re.match(message, told), told
    assert len(told.splitlines()) <= 4 and "Traceback" not in told
    assert state(folder) == before
