"""Audio that only the `ffmpeg` command decodes, such as AAC: read from its pipe as 32-bit samples."""

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float32

from acetrain.errors import Refused

_COMMAND = ("ffmpeg", "-v", "error", "-nostdin", "-i", "{}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1")
"""The AU format carries rate and channels in a header of a few bytes and can be written to a pipe."""
_HEADER = struct.Struct(">4s5I")
"""Magic, offset of the samples, their length, encoding, rate, channels."""


class Pipe:
    """What ffmpeg decodes."""

    frames = 0
    """It claims no length."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        header = self._bytes(_HEADER.size)
        if len(header) < _HEADER.size:
            self._ended()
            raise Refused("cannot be decoded (ffmpeg gives no audio)")
        _, offset, _, _, self.samplerate, self.channels = _HEADER.unpack(header)
        self._bytes(offset - _HEADER.size)

    def read(self, count: int) -> Float32[np.ndarray, "sample channel"]:
        """The next `count` samples, fewer at the end. Raises `Refused` where ffmpeg fails."""
        data = self._bytes(4 * self.channels * count)
        if len(data) < 4 * self.channels * count:
            self._ended()
        return np.frombuffer(data, ">f4").astype(np.float32).reshape(-1, self.channels)

    def _bytes(self, count: int) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        return stdout.read(count)

    def _ended(self) -> None:
        """Raise `Refused` with ffmpeg's last words where it failed."""
        if self._process.wait() != 0:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise Refused(f"cannot be decoded (ffmpeg: {said[-1].rpartition(': ')[2] if said else 'failed'})")


@contextmanager
def opened(file: Path) -> Iterator[Pipe]:
    """A file being decoded by ffmpeg. Raises `Refused` where there is no ffmpeg, or where it cannot decode the file."""
    with tempfile.TemporaryFile() as errors:
        command = [part.format(f"file:{file}") if part == "{}" else part for part in _COMMAND]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except (FileNotFoundError, PermissionError) as error:
            raise Refused(
                f"needs ffmpeg, which is not there to run, as all {file.suffix.lower()} do "
                "(get it by `apt install ffmpeg`, `brew install ffmpeg` or from ffmpeg.org, or convert it to flac)"
            ) from error
        with process:
            try:
                yield Pipe(process, errors)
            finally:
                process.kill()
