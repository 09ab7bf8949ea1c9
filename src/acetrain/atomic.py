"""Files that are whole or absent: a killed writer leaves the old file or the new one."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from acetrain.errors import Failed

PARTIAL = ".partial-"
"""How the name of a file in the making starts."""
LOST = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
    | {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTCONN}
)
"""What the system says of storage that is full, gone or not to be written to."""
PROBE = 2**20
"""Bytes that storage is tried with where a library does not tell why it could not write."""


@contextmanager
def stored(path: Path) -> Iterator[None]:
    """Within it, storage that does not take what is written to `path` is a `Failed` that says so."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _fault(error, path.parent)
        if not reason:
            raise
        raise Failed(f"{path}: cannot be written: {reason}; what was written before is whole") from error


def _fault(error: Exception, folder: Path) -> str:
    """Why storage did not take a file, in the system's words; empty where it is not to blame."""
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in LOST else ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        return os.strerror(found.errno) if found.errno in LOST else ""
    return ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; on success it is synced and takes `path`'s place."""
    with stored(path):
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=f"-{path.name}", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with stored(path):
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success its files are synced and it takes `path`'s place.

    A folder that is there goes as a whole, once the new one is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (Path(tempfile.mkdtemp(prefix=PARTIAL, suffix=f"-{path.name}", dir=path.parent)) for _ in range(2))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        for file in temporary.rglob("*"):
            _sync(file)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            os.replace(old, path)
            raise
        _sync(path.parent)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove what killed writers left in `folder` and below; nobody may be writing there."""
    for left in list(folder.rglob(f"{PARTIAL}*")):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 without newline translation."""
    write_bytes(path, text.encode())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync(path: Path) -> None:
    """Make a file durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
