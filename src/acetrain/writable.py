"""Whether a job will be able to write where it was asked to, found out before it starts."""

import os
from pathlib import Path

from acetrain.errors import Refused


def writable_folder(key: str, path: str | Path) -> None:
    """Raise `Refused`, naming `key`, where `path` is no folder and cannot become one, or cannot be written to.

    Nothing is created: what counts is the folder, or the nearest parent that exists.
    """
    folder = Path(os.path.abspath(path))
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    shown = path if existing == folder else existing
    if not existing.is_dir():
        raise Refused(f"{key}: {shown} is a file; a folder is needed")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise Refused(f"{key}: {shown} must be writable, this user may not write there")
