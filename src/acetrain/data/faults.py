"""What is wrong with songs, said at once and by file."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A file and what is wrong with it."""

    file: str
    what: str


def report(faults: Sequence[Fault]) -> list[str]:
    """One line a file, in order of name; all of them, so that one run is enough to mend every file."""
    by_file: dict[str, list[str]] = {}
    for fault in faults:
        by_file.setdefault(fault.file, []).append(fault.what)
    return [f"  {file}: {'; '.join(by_file[file])}" for file in sorted(by_file)]
