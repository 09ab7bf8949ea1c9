"""Writing a cache: songs one by one, each whole or absent, and the index when all are there."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from acetrain import atomic
from acetrain.data.index import FORMAT, INDEX, SONGS, CachedSong, Fingerprint, parse_row, read_index, read_record
from acetrain.errors import Refused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Store:
    """A cache being written with one way of encoding."""

    folder: Path
    fingerprint: Fingerprint

    def check(self) -> None:
        """Raise `Refused` where the folder holds songs encoded in another way."""
        if (self.folder / INDEX).exists():
            self._check_index()
        expected = self.fingerprint.digest()
        for file in sorted((self.folder / SONGS).glob("[!.]*.safetensors")):
            record = read_record(file)
            if record and record.get("encoding") != expected:
                raise Refused(f"cache: {file} was encoded in another way\nchoose another folder, or delete this one")

    def _check_index(self) -> None:
        found, _ = read_index(self.folder)
        ours, theirs = self.fingerprint.identity(), found.identity()
        for key in ours | theirs:
            if ours.get(key) != theirs.get(key):
                raise Refused(
                    f"cache: {self.folder} has {key} {_short(theirs.get(key))}, asked for is {_short(ours.get(key))}\n"
                    "choose another folder, or delete this one"
                )

    def find(self, name: str, audio: str, text: str, crop: float | None = None) -> CachedSong | None:
        """The song as it is stored, or None where it is not, or not whole, or of other audio, text or length."""
        song = self.heard(name, audio, crop)
        return song if song and song.text == text else None

    def heard(self, name: str, audio: str, crop: float | None = None) -> CachedSong | None:
        """The same whatever text it was stored with: its latents are those asked for."""
        found = stored(self.folder, name)
        if found is None or found.encoding != self.fingerprint.digest():
            return None
        song = found.song
        as_asked = (song.name, song.audio) == (name, audio)
        return song if as_asked and song.is_cropped_to(crop, self.fingerprint.frame_rate) else None

    def latents(self, song: CachedSong) -> "Float[Tensor, 'frame channel']":
        """The latents of a song that is stored."""
        from safetensors import safe_open

        with safe_open(self.folder / song.file, "pt") as held:
            return held.get_tensor("latents").clone()

    def add(
        self,
        song: CachedSong,
        latents: "Float[Tensor, 'frame channel']",
        condition: "Float[Tensor, 'token width']",
        parts: "Mapping[str, Float[Tensor, '_ width']]" = MappingProxyType({}),
    ) -> None:
        """Write one song's file atomically, its record in the header.

        `parts` are the rows of its further lyrics and texts, `lyrics.1`, `text.1` and so on.
        """
        from safetensors.torch import save

        file = self.folder / song.file
        file.parent.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in file.parent.glob(f"{atomic.PARTIAL}*-{file.name}"):
            left_by_a_kill.unlink(missing_ok=True)
        record = json.dumps(song.record() | {"encoding": self.fingerprint.digest()})
        tensors = {"latents": latents, "condition": condition, **parts}
        atomic.write_bytes(file, save(tensors, metadata={"record": record}))

    def finish(self, songs: Sequence[CachedSong]) -> None:
        """Write the index: it holds these songs and no others, whatever else lies in the folder."""
        index = {
            "format": FORMAT,
            "fingerprint": asdict(self.fingerprint),
            "songs": [song.stated() for song in sorted(songs, key=lambda song: song.name)],
        }
        atomic.write_text(self.folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


class Stored(NamedTuple):
    """A song's file, whole."""

    song: CachedSong
    encoding: str
    """Digest of the fingerprint it was encoded with."""


def stored(folder: Path, name: str) -> Stored | None:
    """What a cache's folder holds of a song, or None where that is nothing, or not whole."""
    record = read_record(folder / path_of(name)) or {}
    encoding = record.pop("encoding", None)
    try:
        return Stored(parse_row(CachedSong, record), encoding)
    except ValueError:
        return None


def was_decoded(folder: Path, name: str, audio: str, crop: float | None) -> bool:
    """Whether a song of this name and audio was decoded and found fit before, up to `crop` seconds or to its end."""
    found = stored(folder, name)
    if found is None or (found.song.name, found.song.audio) != (name, audio):
        return False
    return not found.song.crop or (crop is not None and crop <= found.song.crop)


def path_of(name: str) -> str:
    """Where a song's tensors go, below the cache: a readable part, and a hash that tells `a.wav` from `a.mp3`."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:48]
    return f"{SONGS}/{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.safetensors"


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 24 else str(value)
