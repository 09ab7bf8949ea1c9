"""Which files of a folder of another trainer's tensors are its samples: what its manifest says, and what is there."""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from acetrain.errors import Refused

MANIFEST = "manifest.json"
LINEAGE = "preprocess_meta.json"
"""Side-Step's record of how a folder was made; names the variant."""
UNFINISHED = ".tmp.pt"
"""How the name of a file that Side-Step has encoded by half ends."""


class Listing(NamedTuple):
    """The samples of a folder."""

    folder: Path
    files: list[Path]
    """In order of name, each once."""
    notes: list[str]
    """Where the folder is not as its manifest says, and what was made of it."""

    def shown(self, file: Path) -> str:
        """A file as messages name it: unique among `files`."""
        return file.name if file.parent == self.folder else str(file)


def list_samples(folder: Path) -> Listing:
    """The files a manifest lists; all `.pt` files of the folder where there is no manifest, or one that is out of date.

    A listed file that is not where the manifest says is looked for beside it. Raises `Refused` where `folder` is no
    folder or holds no sample. No tensor is read.
    """
    if not folder.is_dir():
        raise Refused(f"tensors: {folder} {'is a file; a folder is needed' if folder.exists() else 'does not exist'}")
    there = sorted(file for file in folder.glob("[!.]*.pt") if file.is_file())
    unfinished = [file for file in there if file.name.endswith(UNFINISHED)]
    present = [file for file in there if file not in unfinished]
    notes = _told(len(unfinished), "encoded by half ({}), left out", unfinished)
    found = _listed(folder, present, notes) if (folder / MANIFEST).exists() else present
    if not found:
        raise Refused(f"tensors: {folder} holds no .pt file of samples")
    return Listing(folder, sorted(found), notes)


def recorded_variant(folder: Path) -> str:
    """The variant that Side-Step says it encoded a folder with, as its options are named here; empty where unsaid."""
    try:
        recorded = json.loads((folder / LINEAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    said = recorded.get("model_variant") if isinstance(recorded, dict) else None
    return said.strip().lower().replace("-", "_") if isinstance(said, str) else ""


def holds_samples(folder: Path) -> bool:
    """Whether a folder holds `.pt` files."""
    return folder.is_dir() and any(folder.glob("[!.]*.pt"))


def _listed(folder: Path, present: list[Path], notes: list[str]) -> list[Path]:
    """The files of the manifest where all are there, else those that are and all others of the folder."""
    try:
        entries = _entries(json.loads((folder / MANIFEST).read_text(encoding="utf-8-sig")), notes)
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{MANIFEST} cannot be read ({error}); every .pt file of the folder is taken")
        return present
    located = {entry: _locate(folder, entry) for entry in entries}
    missing = [entry for entry, file in located.items() if file is None]
    elsewhere = [entry for entry, file in located.items() if file is not None and not _same(folder, entry, file)]
    notes += _told(len(elsewhere), f"listed in {MANIFEST} in another place ({{}}), taken from beside it", elsewhere)
    found = {file.resolve(): file for file in located.values() if file is not None}
    unlisted = [file for file in present if file.resolve() not in found]
    if missing:
        notes += _told(len(missing), f"listed in {MANIFEST} and missing ({{}})", missing)
        notes += _told(len(unlisted), f"not listed in {MANIFEST}, which is out of date, and taken ({{}})", unlisted)
        return [*found.values(), *unlisted]
    hint = f"delete {MANIFEST} to take every .pt file of the folder"
    notes += _told(len(unlisted), f"not listed in {MANIFEST} and left out ({{}}; {hint})", unlisted)
    return list(found.values())


def _entries(manifest: Any, notes: list[str]) -> list[str]:
    samples = manifest.get("samples") if isinstance(manifest, dict) else None
    if not isinstance(samples, list) or not all(isinstance(entry, str) for entry in samples):
        raise ValueError("its samples are no list of paths")
    number = manifest.get("num_samples", len(samples))
    if number != len(samples):
        notes.append(f"{MANIFEST} says {number!r} samples and lists {len(samples)}")
    return samples


def _locate(folder: Path, entry: str) -> Path | None:
    """A listed file: at its path, below `folder` where that is relative, or under its name in `folder`."""
    windows = PureWindowsPath(entry)
    for candidate in (folder / entry, folder / windows.as_posix(), folder / windows.name):
        if os.path.isfile(candidate):
            return candidate
    return None


def _same(folder: Path, entry: str, file: Path) -> bool:
    return file in (folder / entry, folder / PureWindowsPath(entry).as_posix())


def _told(count: int, what: str, which: Sequence[Path | str]) -> list[str]:
    """`12 files: <what>`, its braces naming the first three; nothing where there are none."""
    if not count:
        return []
    names = [file.name if isinstance(file, Path) else ascii(file)[1:-1] for file in which[:3]]
    named = ", ".join([*names, *(["..."] if count > 3 else [])])
    return [f"{count} {'file' if count == 1 else 'files'}: {what.format(named)}"]
