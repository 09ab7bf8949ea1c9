"""Which code a result came from."""

import shutil
import subprocess
from pathlib import Path


def commit() -> str:
    """The commit of the checkout this package runs from, `-dirty` if it was changed.

    Empty for an installed package, and where there is no git to ask.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return ""
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()
