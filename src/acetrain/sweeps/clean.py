"""Deleting what a sweep no longer needs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from acetrain.sweeps.record import Record, recorded
from acetrain.sweeps.state import Standing, State


def clean(record: Record, ended: Sequence[Standing], everything: bool, delete: bool) -> None:
    """Delete the folders of unfinished runs, or of all and the record with them; without `delete`, say which.

    A run that another sweep has as well stays, as does one that is running.
    """
    shared = _shared(record)
    doomed = [one for one in ended if _goes(one, everything) and one.entry.run not in shared]
    for one in doomed:
        folder = record.folder(one.entry.run)
        print(f"{'deleted' if delete else 'would delete'}: {folder} ({one.state.value}, {_size(folder)})")
        if delete and folder.exists():
            shutil.rmtree(folder)
    kept = [one for one in ended if one.state.busy or one.entry.run in shared]
    for one in kept:
        why = f"it is {one.state.value}" if one.state.busy else "another sweep has it as well"
        print(f"kept: {record.folder(one.entry.run)}, {why}")
    if delete and everything:
        record.forget([one.entry.run for one in ended if not one.state.busy])
        if not any(one.state.busy for one in ended):
            shutil.rmtree(record.path)
            print(f"deleted: {record.path}")
    if not doomed:
        print("nothing to delete")
    elif not delete:
        print("delete=true deletes them")


def _goes(one: Standing, everything: bool) -> bool:
    if one.state.busy:
        return False
    return everything or one.state in (State.failed, State.interrupted)


def _shared(record: Record) -> set[str]:
    others = [Record.of(record.parent, name) for name in recorded(record.parent) if name != record.name]
    return {entry.run for other in others for entry in other.read().entries}


def _size(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{size / 2**20:.1f} MiB"
