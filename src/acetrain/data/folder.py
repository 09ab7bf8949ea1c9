"""The folders below a folder, each listed once."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from acetrain.errors import Refused

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True)
class Listing:
    """The visible files of one folder."""

    path: str
    prefix: str
    """Where it lies below the first folder: empty, or ending in `/`."""
    files: frozenset[str]
    dead: frozenset[str]
    """Names that are neither files nor folders: links that lead nowhere, for the most part."""


def walk(root: Path, warn: Callable[[str, str], None]) -> Iterator[Listing]:
    """`root` and every visible folder below it, linked ones too, each once.

    Linked folders come last, so that a folder has its own name where it has one; `warn` is told name and reason of
    links to a folder that was listed, or that holds `root`. Raises `Refused` where a folder cannot be listed.
    """
    seen = {_identity(str(folder)) for folder in root.resolve().parents}
    linked = [("", str(root))]
    while linked:
        prefix, start = linked.pop(0)
        if _identity(start) in seen:
            warn(prefix.rstrip("/"), "is a link to a folder that is scanned already, or holds this one; not followed")
            continue
        pending = [(prefix, start)]
        while pending:
            prefix, path = pending.pop()
            seen.add(_identity(path))
            listing, folders, links = _listed(path, prefix)
            pending += folders
            linked += links
            yield listing


Below = list[tuple[str, str]]
"""Prefix and path of folders."""


def _listed(path: str, prefix: str) -> tuple[Listing, Below, Below]:
    """The files of a folder, its folders, and the folders it links to."""
    files, dead = set(), set()
    folders: Below = []
    links: Below = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    (links if entry.is_symlink() else folders).append((f"{prefix}{entry.name}/", entry.path))
                else:
                    (files if _is_file(entry) else dead).add(entry.name)
    except OSError as error:
        raise Refused(f"songs: {error.filename} cannot be listed ({error.strerror})") from error
    return Listing(path, prefix, frozenset(files), frozenset(dead)), folders, sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _identity(path: str) -> Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino
