"""The index of a cache: which songs there are, what is known of each, and how they were encoded."""

import functools
import hashlib
import json
import types
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from acetrain.acestep.weights import Stamp
from acetrain.data.variants import Take, Variants
from acetrain.errors import Refused
from acetrain.keyed import Key
from acetrain.tensorfile import read_header

FORMAT = 3
READABLE = (2, 3)
"""Formats that are read; 2 knows no variants and no loudness, and is otherwise the same."""
INDEX = "index.json"
SONGS = "songs"
UNKNOWN = "unknown"
"""What a fingerprint says of songs that another trainer encoded, where nothing tells."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class CachedSong:
    """One song of the index."""

    name: str
    """Path of the audio below the songs folder; unique, and what the song's draws are keyed by."""
    file: str
    """Path of the song's safetensors below the cache."""
    frames: int
    """Latent frames."""
    tokens: int
    """Rows of the condition as written."""
    seconds: float
    """Duration of the frames, the one the prompt states."""
    audio: str
    """SHA-256 of the audio file."""
    text: str
    """SHA-256 of caption, lyrics and metadata, in all the wordings that were encoded."""
    crop: float = 0.0
    """Seconds that the audio was cropped to; 0 where it is whole."""
    repeat: int = 1
    """Visits in a pass over the songs. It stands in the index alone: another one encodes nothing again."""
    genre_share: float = 0.0
    """Share of its visits that name the genre in the caption's place. It stands in the index alone."""
    variants: Variants | None = None
    """What visits draw from beside the condition as written; None for nothing."""

    def stated(self) -> dict[str, Any]:
        """All fields; those of format 3 only where they say anything, so that a song of format 2 stays what it was."""
        new = {"genre_share": 0.0, "variants": None}
        return {key: value for key, value in asdict(self).items() if key not in new or value != new[key]}

    def record(self) -> dict[str, Any]:
        """What the song's own file says of it."""
        return {key: value for key, value in self.stated().items() if key not in ("repeat", "genre_share")}

    def is_cropped_to(self, crop: float | None, frame_rate: float) -> bool:
        """Whether encoding it with this limit, in seconds, or None for none, gives what there is."""
        if self.crop:
            return crop == self.crop
        return crop is None or crop * frame_rate >= self.frames + 1

    @property
    def window(self) -> int:
        """Latent frames of its windows; 0 where it has none."""
        return self.variants.windows.frames if self.variants and self.variants.windows else 0

    def heard(self, cropped: bool) -> int:
        """Latent frames that a visit takes."""
        return self.window if cropped and self.window else self.frames

    @property
    def most_tokens(self) -> int:
        """Rows of the longest condition that a visit may draw."""
        if self.variants is None:
            return self.tokens
        found = self.variants
        return max(found.head, *found.lyrics, 0) + max(self.tokens - found.head, *found.texts, 0)

    def drawn(self, cropped: bool, *key: Key) -> Take:
        """What the visit of this key takes."""
        if self.variants is None:
            return self.as_written()
        return self.variants.drawn(self.frames, self.genre_share, cropped, *key)

    def as_written(self) -> Take:
        """The whole song, told as its files word it."""
        return Take(0, self.frames, 0, 0)


@dataclass(frozen=True)
class Fingerprint:
    """What the songs were encoded with."""

    variant: str
    weights: str
    """SHA-256 of the encoding weights, or unknown."""
    weights_files: list[Stamp]
    """The files hashed, so that unchanged ones are not hashed again."""
    template: str
    """SHA-256 of the prompt template, or whose it was."""
    timbre: str
    """Reference the timbre is taken from."""
    precision: str
    """Format the encoders ran in."""
    seed: int
    """Seed of the posterior's noise and of shuffled tags; -1 where unknown."""
    latent_channels: int
    condition_width: int
    frame_rate: float
    """Latent frames a second."""
    sample_rate: int
    """Rate of the audio that was encoded, in Hz."""
    loudness: float | None = None
    """LUFS that songs were brought to; None where each has its own."""

    @property
    def is_foreign(self) -> bool:
        """Whether another trainer encoded the songs, in a way that can neither be checked nor is inference's."""
        return self.weights == UNKNOWN

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the result: all fields but the remembered files, and the loudness if there is one."""
        left_out = ("weights_files",) if self.loudness is not None else ("weights_files", "loudness")
        return {key: value for key, value in asdict(self).items() if key not in left_out}

    def digest(self) -> str:
        return digest_of(self.identity())


def read_index(folder: Path) -> tuple[Fingerprint, tuple[CachedSong, ...]]:
    """The index of a cache. Raises `Refused` where it is missing or not an index."""
    file = folder / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        if index["format"] not in READABLE:
            raise Refused(
                f"cache: {file} has format {index['format']!r}, this version reads {' and '.join(map(str, READABLE))}\n"
                "preprocess the songs again, into another folder"
            )
        songs = tuple(parse_row(CachedSong, row) for row in index["songs"])
        for song, before in zip(songs, (None, *songs), strict=False):
            if min(song.frames, song.tokens, song.repeat) < 1 or (before and before.name >= song.name):
                raise ValueError(f"{song.name} is out of order, or counts less than one frame, token or repeat")
        return parse_row(Fingerprint, index["fingerprint"]), songs
    except FileNotFoundError as error:
        why = "preprocess was interrupted: run it again" if (folder / SONGS).is_dir() else "preprocess makes one"
        raise Refused(f"cache: {folder} has no {INDEX} ({why})") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"cache: {file} is not the index of a cache ({error})") from error


def parse_row(kind: type[Row], data: Any) -> Row:
    """A dataclass from JSON. Raises ValueError where a field is missing, unknown or of another type."""
    if type(data) is not dict:
        raise ValueError(f"{kind.__name__} is {data!r}")
    declared = _hints(kind)
    needed = {field.name for field in fields(kind) if field.default is MISSING}  # pyright: ignore[reportArgumentType]
    wrong = (needed - set(data)) | (set(data) - set(declared))
    if wrong:
        raise ValueError(f"fields {', '.join(sorted(wrong))} do not match")
    return kind(**{name: _parsed(declared[name], name, value) for name, value in data.items()})


_hints = functools.cache(get_type_hints)


def _parsed(hint: Any, name: str, value: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return None if value is None else _parsed(get_args(hint)[0], name, value)
    if is_dataclass(hint) and isinstance(hint, type):
        return parse_row(hint, value)
    accepted = (int, float) if hint is float else (get_origin(hint) or hint,)
    numbers = hint == list[int] and type(value) is list
    if type(value) not in accepted or (numbers and not all(type(item) is int for item in value)):
        raise ValueError(f"{name} is {value!r}")
    return value


def read_record(file: Path) -> dict[str, Any] | None:
    """The record in the header of a song's file; None where the file is absent, cut short or foreign."""
    try:
        record = json.loads(read_header(file).metadata["record"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def digest_of(content: Any) -> str:
    """SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
