"""Audio files to samples at the model's rate, and back."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from acetrain import atomic
from acetrain.data.decoding import BLOCK, Samples, blocks, opened
from acetrain.data.formats import LONGEST, WRITTEN
from acetrain.data.synthesis.ogg import with_serial
from acetrain.errors import Refused

_SLACK = 2304
"""Samples that a whole MP3 may lack of what its header claims: two frames."""


class Inspection(NamedTuple):
    """What a first pass over a file finds out."""

    seconds: float
    """Up to where it is cropped."""
    sha256: str
    """Of the file, all of it."""


Watch = Callable[[int, Samples], None]
"""Told of every block that is decoded: its rate in Hz and its samples."""


def inspect(file: Path, shortest: float, watch: Watch | None = None, crop: float | None = None) -> Inspection:
    """Decode a file once, block by block, which `watch` sees on the way; its first `crop` seconds alone, where given.

    Raises `Refused` where it cannot be decoded, is empty or cut short, has more than two channels, holds non-finite
    samples, or lasts less than `shortest` seconds or more than the model's 600.
    """
    with opened(file) as stream:
        limit = _limit(crop, stream.samplerate)
        samples = 0
        for block in blocks(stream, limit):
            samples += len(block)
            if watch:
                watch(stream.samplerate, block)
        seconds, claimed = samples / stream.samplerate, stream.frames
        claimed_seconds = claimed / stream.samplerate
    if samples == 0:
        raise Refused("holds no audio")
    if samples != limit and samples < min(0.99 * claimed, claimed - _SLACK):
        raise Refused(f"is cut short: {seconds:.1f} of {claimed_seconds:.1f} s are there")
    if seconds < shortest:
        raise Refused(f"lasts {seconds:.3f} s, the shortest song is {shortest:g} s")
    if seconds > LONGEST:
        raise Refused(f"lasts {seconds:.0f} s, the longest song is {LONGEST} s (max_duration={LONGEST} crops it)")
    return Inspection(seconds, sha256_of(file))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes. Raises `Refused` where it cannot be read."""
    try:
        with file.open("rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error


def read(file: Path, rate: int, crop: float | None = None) -> Float32[np.ndarray, "2 sample"]:
    """A file in stereo (mono on both channels) at `rate` Hz, resampled by soxr's high-quality filter.

    Only its first `crop` seconds are read. Raises `Refused` as `inspect` does, length apart.
    """
    with opened(file) as stream:
        resample = soxr.ResampleStream(stream.samplerate, rate, stream.channels) if stream.samplerate != rate else None
        decoded = blocks(stream, _limit(crop, stream.samplerate))
        parts = [resample.resample_chunk(block) if resample else block for block in decoded]
        if resample:
            parts.append(resample.resample_chunk(np.zeros((0, stream.channels), np.float32), last=True))
    samples = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
    return np.ascontiguousarray(np.broadcast_to(samples, (len(samples), 2)).T)


def _limit(crop: float | None, rate: int) -> int | None:
    """Samples of `crop` seconds."""
    return None if crop is None else round(crop * rate)


def write(file: Path, audio: Float32[np.ndarray, "2 sample"], rate: int) -> None:
    """Write a file atomically, in the format its suffix names; the same audio gives the same bytes."""
    kind, subtype = WRITTEN[file.suffix.lower()]
    with atomic.replacing(file) as temporary:
        with soundfile.SoundFile(temporary, "w", rate, len(audio), subtype=subtype, format=kind) as stream:
            for start in range(0, audio.shape[1], BLOCK):
                stream.write(audio[:, start : start + BLOCK].T)
        if kind == "OGG":
            temporary.write_bytes(with_serial(temporary.read_bytes(), serial=1))
