"""One pass over another trainer's samples each: checking them, and writing them into a cache."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from acetrain.data.faults import Fault
from acetrain.data.foreign.listing import Listing
from acetrain.data.foreign.sample import Form, read_sample
from acetrain.data.index import CachedSong
from acetrain.data.store import Store, path_of
from acetrain.errors import Failed, Refused


class Checked(NamedTuple):
    """A sample that can be used."""

    file: Path
    name: str
    """The song's name in the cache: its audio's, with the sample's own where several share that."""
    sha256: str
    """SHA-256 of the file."""
    text: str
    """SHA-256 of what it says of caption, lyrics and metadata."""
    repeat: int
    has_genre: bool


def check_samples(listing: Listing, form: Form, advance: Callable[[], None]) -> tuple[list[Checked], list[Fault]]:
    """Read every sample once: those that can be used, and all that is wrong with the others."""
    found, faults = [], []
    for file in listing.files:
        try:
            sample = read_sample(file, form)
            about = sample.text_digest(), sample.repeat, sample.has_genre
            found.append(Checked(file, sample.filename, _sha256(file), *about))
        except Refused as refusal:
            faults.append(Fault(listing.shown(file), str(refusal)))
        advance()
    return _named(found, listing), faults


def convert_samples(
    samples: Sequence[Checked], form: Form, store: Store, advance: Callable[[], None]
) -> list[CachedSong]:
    """Write samples into the cache one by one. Raises `Failed` where one is no longer as it was checked."""
    songs = []
    for checked in samples:
        if _sha256(checked.file) != checked.sha256:
            raise Failed(f"tensors: {checked.file} changed while the folder was converted; run it again")
        sample = read_sample(checked.file, form)
        row = CachedSong(
            name=checked.name,
            file=path_of(checked.name),
            frames=len(sample.latents),
            tokens=len(sample.condition),
            seconds=len(sample.latents) / store.fingerprint.frame_rate,
            audio=checked.sha256,
            text=checked.text,
            repeat=checked.repeat,
        )
        store.add(row, sample.latents, sample.condition)
        songs.append(row)
        advance()
    return songs


def _named(found: Sequence[Checked], listing: Listing) -> list[Checked]:
    """The same with names that are unique."""
    shared = Counter(checked.name for checked in found)
    named = []
    for checked in found:
        own = listing.shown(checked.file)
        told = checked.name if shared[checked.name] == 1 else f"{checked.name} ({own})"
        named.append(checked._replace(name=told if checked.name else own))
    return named


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
