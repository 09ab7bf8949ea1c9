"""Where a search keeps what it knows: a journal, or a database that Optuna reaches."""

import fcntl
import json
import os
from typing import IO, Any

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

LOST = (OptunaError, SQLAlchemyError, OSError, ValueError, KeyError)
"""What is raised where a storage is gone, or is none."""
PATIENCE = 60
"""Seconds to wait for another process that writes to an SQLite database."""


class Journal(JournalFileBackend):
    """Optuna's journal, more careful when it is written to: its lock ends with the process that holds it, a line that a
    full disk tore is taken off again, and a file that has gone is not begun anew with what comes next."""

    def __init__(self, path: str) -> None:
        """The journal at `path`, begun where there is none. Raises ValueError for a file that is no journal."""
        super().__init__(path)
        with open(path, "rb") as file:
            if (first := file.readline()) and b'"op_code"' not in first:
                raise ValueError("it is a file of another kind")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self._file_path, "rb+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _end_of_lines(file)
            file.truncate(end)
            file.seek(end)
            try:
                if file.write(text.encode()) < len(text.encode()):
                    raise OSError("the disk is full")
                os.fsync(file)
            except OSError:
                file.truncate(end)
                raise


def _end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return 0
    start = max(0, end - 2**20)  # no line is longer
    file.seek(start)
    return start + file.read().rfind(b"\n") + 1


def opened(where: str) -> BaseStorage:
    """The storage at a database's URL, or in a journal at a path. Raises one of `LOST`, or ImportError for a database
    whose driver is not installed."""
    if "://" not in where:
        return JournalStorage(Journal(where))
    waiting = {"connect_args": {"timeout": PATIENCE}} if where.startswith("sqlite") else {"pool_pre_ping": True}
    return RDBStorage(where, engine_kwargs=waiting)


def shown(where: str) -> str:
    """A storage as it may be told: without the password of a URL."""
    if "://" not in where:
        return where
    try:
        url = make_url(where)
    except ArgumentError:
        return f"{where.partition('://')[0]}://..."
    return url.set(query={}).render_as_string(hide_password=True)


def reason(error: BaseException, where: str) -> str:
    """The first line of what is wrong with a storage, without what is secret in its URL."""
    cause = error.__cause__ if isinstance(error, OptunaError) and error.__cause__ else error
    said = str(cause).strip() or type(cause).__name__
    if isinstance(cause, OSError) and cause.strerror:
        said = cause.strerror
    said = said.splitlines()[0].replace(where, shown(where))
    for secret in _secrets(where):
        said = said.replace(secret, "***")
    return said


def _secrets(where: str) -> list[str]:
    try:
        url = make_url(where)
    except ArgumentError:
        return []
    return [str(secret) for secret in (url.password, *url.query.values()) if secret]
