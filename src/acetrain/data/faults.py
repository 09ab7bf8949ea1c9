"""What is wrong with songs, said at once and by file."""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 20


@dataclass(frozen=True)
class Fault:
    """A file and what is wrong with it."""

    file: str
    what: str


def report(faults: Sequence[Fault]) -> list[str]:
    """One line a file, in order of name, and a count of the files beyond the first 20."""
    by_file: dict[str, list[str]] = {}
    for fault in faults:
        by_file.setdefault(fault.file, []).append(fault.what)
    lines = [f"  {file}: {'; '.join(by_file[file])}" for file in sorted(by_file)]
    return lines[:SHOWN] + ([f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
