"""Deleting what a sweep no longer needs."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from acetrain.sweeps.record import Record, recorded
from acetrain.sweeps.state import Standing, State

UNFINISHED = (State.failed, State.interrupted)


def clean(record: Record, ended: Sequence[Standing], everything: bool, delete: bool) -> None:
    """Delete the folders of unfinished runs, or of all and the record with them; without `delete`, say which.

    A run that another sweep has as well stays, as does one that is running, and one whose folder is a link.
    """
    shared = _shared(record, ended)
    kept = {one.entry.run: why for one in ended if (why := _why_kept(record, one, shared))}
    doomed = [one for one in ended if (everything or one.state in UNFINISHED) and one.entry.run not in kept]
    for one in doomed:
        folder = record.folder(one.entry.run)
        print(f"{'deleted' if delete else 'would delete'}: {folder} ({one.state.value}, {_size(folder)})")
        if delete and folder.exists():
            shutil.rmtree(folder)
    for run, why in kept.items():
        print(f"kept: {record.folder(run)}, {why}")
    if delete:
        _forget(record, ended, doomed, everything)
    if not doomed:
        print("nothing to delete")
    elif not delete:
        print("delete=true deletes them")


def _forget(record: Record, ended: Sequence[Standing], deleted: Sequence[Standing], everything: bool) -> None:
    if not everything:
        record.forget_tries([one.entry.run for one in deleted])
        return
    record.forget([one.entry.run for one in ended if not one.state.busy])
    if not any(one.state.busy for one in ended):
        shutil.rmtree(record.path)
        print(f"deleted: {record.path}")


def _why_kept(record: Record, one: Standing, shared: set[str]) -> str:
    """Why a run stays; empty where nothing keeps it."""
    if one.state.busy:
        return f"it is {one.state.value}"
    if one.entry.run in shared:
        return "another sweep has it as well"
    return "it is a link" if record.folder(one.entry.run).is_symlink() else ""


def _shared(record: Record, ended: Sequence[Standing]) -> set[str]:
    """Runs that another sweep has whose record lies beside this one's, or beside the run."""
    folders = {one.entry.run: record.folder(one.entry.run).resolve() for one in ended}
    parents = {record.parent.resolve(), *(folder.parent for folder in folders.values())}
    others = [Record.of(parent, name) for parent in parents for name in recorded(parent)]
    own = record.path.resolve()
    theirs = {
        other.folder(entry.run).resolve()
        for other in others
        if other.path.resolve() != own
        for entry in other.read().entries
    }
    return {run for run, folder in folders.items() if folder in theirs}


def _size(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{size / 2**20:.1f} MiB"
