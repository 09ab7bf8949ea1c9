"""Audio files as streams of blocks: by libsndfile, or by the `ffmpeg` command where that cannot read them."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Float32

from acetrain.data import ffmpeg
from acetrain.data.formats import BY_FFMPEG
from acetrain.errors import Refused

BLOCK = 1 << 18
"""Samples decoded at once."""

Samples = Float32[np.ndarray, "sample channel"]


@runtime_checkable
class Stream(Protocol):
    """A file being decoded."""

    @property
    def samplerate(self) -> int:
        """Hz."""
        ...

    @property
    def channels(self) -> int: ...

    @property
    def frames(self) -> int:
        """Samples that the file claims to hold; 0 where it claims nothing."""
        ...

    def read(self, count: int) -> Samples:
        """The next `count` samples, fewer at the end. Raises `Refused` where they cannot be decoded."""
        ...


class _SoundFile:
    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.samplerate, self.channels = file.samplerate, file.channels
        self.frames = file.frames if file.seekable() else 0

    def read(self, count: int) -> Samples:
        try:
            return self._file.read(count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise Refused(unreadable(error)) from error


def opened(file: Path) -> AbstractContextManager[Stream]:
    """A file to decode. Raises `Refused` where it is empty, cannot be decoded, or has more than two channels."""
    return _checked(ffmpeg.opened(file) if file.suffix.lower() in BY_FFMPEG else _by_soundfile(file), file)


@contextmanager
def _checked(opening: AbstractContextManager[Stream], file: Path) -> Iterator[Stream]:
    if file.exists() and file.stat().st_size == 0:
        raise Refused("is empty")
    with opening as stream:
        if stream.channels > 2:
            raise Refused(f"has {stream.channels} channels; mix it down to stereo")
        yield stream


@contextmanager
def _by_soundfile(file: Path) -> Iterator[Stream]:
    try:
        uncounted = file.suffix.lower() == ".mp3" and not _counts_frames(file)
        stream = soundfile.SoundFile(_piped(file) if uncounted else file)
    except (soundfile.SoundFileError, OSError) as error:
        raise Refused(unreadable(error)) from error
    with stream:
        yield _SoundFile(stream)


def _counts_frames(file: Path) -> bool:
    """Whether an MP3 says how many frames it has; libsndfile guesses from the first bit rate where it does not, and
    reads no further than its guess."""
    with file.open("rb") as raw:
        head = raw.read(10)
        tagged = head[:3] == b"ID3" and len(head) == 10
        raw.seek(10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:]))) if tagged else 0)
        first = raw.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _piped(file: Path) -> int:
    """A descriptor to read a file from that cannot be sought in: it is decoded to its end."""
    reading, writing = os.pipe()

    def feed() -> None:
        with file.open("rb") as raw, os.fdopen(writing, "wb") as pipe, suppress(BrokenPipeError):
            shutil.copyfileobj(raw, pipe)

    threading.Thread(target=feed, daemon=True).start()
    return reading


def blocks(stream: Stream, limit: int | None = None) -> Iterator[Samples]:
    """Blocks until the end, whatever length the file claims, or until `limit` samples.

    Raises `Refused` for non-finite samples.
    """
    left = limit
    while left is None or left > 0:
        block = stream.read(BLOCK if left is None else min(BLOCK, left))
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise Refused("holds non-finite samples")
        left = left if left is None else left - len(block)
        yield block


def unreadable(error: Exception) -> str:
    """What is wrong with a file that cannot be decoded."""
    return f"cannot be decoded ({str(error).rstrip('.')})"
