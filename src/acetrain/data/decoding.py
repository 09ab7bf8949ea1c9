"""Audio files as streams of blocks: by libsndfile, or by the `ffmpeg` command where that cannot read them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
        self.samplerate, self.channels, self.frames = file.samplerate, file.channels, file.frames

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
        stream = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, OSError) as error:
        raise Refused(unreadable(error)) from error
    with stream:
        yield _SoundFile(stream)


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
