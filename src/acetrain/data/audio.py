"""Audio files to samples at the model's rate, and back."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from acetrain import atomic
from acetrain.data.formats import LONGEST, WRITTEN
from acetrain.data.synthesis.ogg import with_serial
from acetrain.errors import Refused

_BLOCK = 1 << 18
"""Samples decoded at once."""

_SLACK = 2304
"""Samples that a whole MP3 may lack of what its header claims: two frames."""

Samples = Float32[np.ndarray, "sample channel"]


class Inspection(NamedTuple):
    """What a first pass over a file finds out."""

    seconds: float
    sha256: str


Watch = Callable[[int, Samples], None]
"""Told of every block that is decoded: its rate in Hz and its samples."""


def inspect(file: Path, shortest: float, watch: Watch | None = None) -> Inspection:
    """Decode a file once, block by block, which `watch` sees on the way.

    Raises `Refused` where it cannot be decoded, is empty or cut short, has more than two channels, holds non-finite
    samples, or lasts less than `shortest` seconds or more than the model's 600.
    """
    with _opened(file) as stream:
        samples = 0
        for block in _blocks(stream):
            samples += len(block)
            if watch:
                watch(stream.samplerate, block)
        seconds = samples / stream.samplerate
        claimed = stream.frames if stream.format == "MP3" else samples
        claimed_seconds = claimed / stream.samplerate
    if samples == 0:
        raise Refused("holds no audio")
    if samples < min(0.99 * claimed, claimed - _SLACK):
        raise Refused(f"is cut short: {seconds:.1f} of {claimed_seconds:.1f} s are there")
    if seconds < shortest:
        raise Refused(f"lasts {seconds:.3f} s, the shortest song is {shortest:g} s")
    if seconds > LONGEST:
        raise Refused(f"lasts {seconds:.0f} s, the longest song is {LONGEST} s")
    with file.open("rb") as raw:
        return Inspection(seconds, hashlib.file_digest(raw, "sha256").hexdigest())


def read(file: Path, rate: int) -> Float32[np.ndarray, "2 sample"]:
    """A file in stereo (mono on both channels) at `rate` Hz, resampled by soxr's high-quality filter.

    Raises `Refused` as `inspect` does, length apart.
    """
    with _opened(file) as stream:
        resample = soxr.ResampleStream(stream.samplerate, rate, stream.channels) if stream.samplerate != rate else None
        parts = [resample.resample_chunk(block) if resample else block for block in _blocks(stream)]
        if resample:
            parts.append(resample.resample_chunk(np.zeros((0, stream.channels), np.float32), last=True))
    samples = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
    return np.ascontiguousarray(np.broadcast_to(samples, (len(samples), 2)).T)


def write(file: Path, audio: Float32[np.ndarray, "2 sample"], rate: int) -> None:
    """Write a file atomically, in the format its suffix names; the same audio gives the same bytes."""
    kind, subtype = WRITTEN[file.suffix.lower()]
    with atomic.replacing(file) as temporary:
        with soundfile.SoundFile(temporary, "w", rate, len(audio), subtype=subtype, format=kind) as stream:
            for start in range(0, audio.shape[1], _BLOCK):
                stream.write(audio[:, start : start + _BLOCK].T)
        if kind == "OGG":
            temporary.write_bytes(with_serial(temporary.read_bytes(), serial=1))


def _opened(file: Path) -> soundfile.SoundFile:
    try:
        stream = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, OSError) as error:
        raise Refused("is empty" if file.exists() and file.stat().st_size == 0 else _unreadable(error)) from error
    if stream.channels > 2:
        stream.close()
        raise Refused(f"has {stream.channels} channels; mix it down to stereo")
    return stream


def _blocks(stream: soundfile.SoundFile) -> Iterator[Samples]:
    """Blocks until the end, whatever length the header claims."""
    while True:
        try:
            block = stream.read(_BLOCK, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise Refused(_unreadable(error)) from error
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise Refused("holds non-finite samples")
        yield block


def _unreadable(error: Exception) -> str:
    return f"cannot be decoded ({str(error).rstrip('.')})"
