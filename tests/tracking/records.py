"""Offline W&B files, read by W&B's own reader."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def files(folder: Path) -> list[Path]:
    """The files of offline runs below `folder`, oldest first."""
    return sorted(folder.glob("**/offline-run-*/run-*.wandb"))


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    """The content of all records of a kind (`run`, `history`, `summary`, ...), as `wandb leet inspect` reads them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    read = [json.loads(line) for line in printed.splitlines()]
    return [record[kind] for record in read if record["type"] == kind]


def summary(file: Path) -> dict[str, Any]:
    """The summary as it stood at the end."""
    last: dict[str, Any] = {}
    for record in records(file, "summary"):
        last |= record.get("update", {})
    return last
