"""The pass over songs that finds out which can be used, before any is encoded."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from acetrain.data import audio
from acetrain.data.faults import Fault
from acetrain.data.songs import Scan, Song
from acetrain.data.store import path_of, was_decoded
from acetrain.errors import Refused


class Checked(NamedTuple):
    """A song whose audio can be used, and the SHA-256 of its file."""

    song: Song
    sha256: str


def check_audio(
    found: Scan, shortest: float, cache: Path, crop: float | None, advance: Callable[[], None]
) -> tuple[list[Checked], list[Fault]]:
    """The songs that can be used, and all that is wrong with the others.

    Every song is decoded once, up to `crop` seconds, but for those that `cache` holds, of the same audio; `shortest`
    in seconds.
    """
    songs = {song.name: song for song in found.songs}
    checked, faults = [], list(found.faults)
    for name, file in [(song.name, song.audio) for song in found.songs] + found.unfit:
        try:
            sha256 = _fit(name, file, shortest, cache, crop)
            if name in songs:
                checked.append(Checked(songs[name], sha256))
        except Refused as refusal:
            faults.append(Fault(name, str(refusal)))
        advance()
    return checked, faults


def _fit(name: str, file: Path, shortest: float, cache: Path, crop: float | None) -> str:
    """SHA-256 of a song that can be used. Raises `Refused` for any other."""
    if (cache / path_of(name)).exists():
        sha256 = audio.sha256_of(file)
        if was_decoded(cache, name, sha256, crop):
            return sha256
    return audio.inspect(file, shortest, crop=crop).sha256
