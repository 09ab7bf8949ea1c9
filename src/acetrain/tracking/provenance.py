"""Which code a result came from."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit of the checkout this package runs from, `-dirty` if it was changed; empty for an installed package."""
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    if not (root / ".git").exists():
        return ""
    described = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()
