"""A composed song on disk: its audio in one of five formats, with the sidecars that preprocessing reads."""

import io
import json
from pathlib import Path

import soundfile

from acetrain.atomic import write_bytes, write_text
from acetrain.data.synthesis.instruments import RATE
from acetrain.data.synthesis.ogg import with_serial
from acetrain.data.synthesis.song import Song

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""Suffix -> libsndfile's container and encoding."""


def write(song: Song, index: int, folder: Path) -> Path:
    """Write song `index` in the format whose turn it is, after its sidecars, and return the audio's path.

    The bytes depend on the song and its index alone.
    """
    suffix = list(FORMATS)[index % len(FORMATS)]
    stem = f"{index:04d}-{song.style}"
    metadata = {
        "caption": song.caption,
        "bpm": song.bpm,
        "keyscale": song.keyscale,
        "timesignature": song.timesignature,
        "language": song.language,
    }
    write_text(folder / f"{stem}.caption.txt", song.caption + "\n")
    write_text(folder / f"{stem}.lyrics.txt", song.lyrics + "\n")
    write_text(folder / f"{stem}.json", json.dumps(metadata, indent=2) + "\n")
    path = folder / f"{stem}.{suffix}"
    write_bytes(path, encoded(song, index, suffix))
    return path


def encoded(song: Song, serial: int, suffix: str) -> bytes:
    """The song's audio in a format of `FORMATS`; `serial` numbers the stream where the container wants that."""
    container, encoding = FORMATS[suffix]
    buffer = io.BytesIO()
    soundfile.write(buffer, song.audio, RATE, format=container, subtype=encoding)
    data = buffer.getvalue()
    return with_serial(data, serial) if container == "OGG" else data
