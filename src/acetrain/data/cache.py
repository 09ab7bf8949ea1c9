"""A data set of encoded songs on disk: one safetensors file a song, and an index of them.

The folder holds `index.json` and `songs/<id>.safetensors`; nothing in it depends on where it lies.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from acetrain.acestep.model import Model
from acetrain.acestep.weights import Stamp, hash_weights, stamps
from acetrain.errors import Refused
from acetrain.tensorfile import read_header

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FORMAT = 2
INDEX = "index.json"
SONGS = "songs"
UNKNOWN = "unknown"
"""What a fingerprint says of songs that another trainer encoded, where nothing tells."""

Row = TypeVar("Row", "CachedSong", "Fingerprint")


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
    """Rows of the condition."""
    seconds: float
    """Duration of the frames, the one the prompt states."""
    audio: str
    """SHA-256 of the audio file."""
    text: str
    """SHA-256 of caption, lyrics and metadata, as they were encoded."""
    crop: float = 0.0
    """Seconds that the audio was cropped to; 0 where it is whole."""
    repeat: int = 1
    """Visits in a pass over the songs. It stands in the index alone: another one encodes nothing again."""

    def record(self) -> dict[str, Any]:
        """What the song's own file says of it."""
        return {key: value for key, value in asdict(self).items() if key != "repeat"}

    def is_cropped_to(self, crop: float | None, frame_rate: float) -> bool:
        """Whether encoding it with this limit, in seconds, or None for none, gives what there is."""
        if self.crop:
            return crop == self.crop
        return crop is None or crop * frame_rate >= self.frames + 1


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
    """Seed of the posterior's noise; -1 where unknown."""
    latent_channels: int
    condition_width: int
    frame_rate: float
    """Latent frames a second."""
    sample_rate: int
    """Rate of the audio that was encoded, in Hz."""

    @property
    def is_foreign(self) -> bool:
        """Whether another trainer encoded the songs, in a way that can neither be checked nor is inference's."""
        return self.weights == UNKNOWN

    def identity(self) -> dict[str, Any]:
        """Everything that fixes the result: all fields but the remembered files."""
        return {key: value for key, value in asdict(self).items() if key != "weights_files"}

    def digest(self) -> str:
        return _digest(self.identity())


@dataclass(frozen=True)
class Cache:
    """An index that was read and checked; songs are read one at a time."""

    folder: Path
    fingerprint: Fingerprint
    songs: tuple[CachedSong, ...]

    @classmethod
    def open(cls, folder: str | Path) -> "Cache":
        """Read the index and check it against the records of the songs; no tensor is read.

        Raises `Refused` where the index is missing or broken, or where songs are missing, cut short, or others than it
        lists, as they are when preprocessing of changed songs was interrupted.
        """
        folder = Path(folder)
        fingerprint, songs = read_index(folder)
        encoding = fingerprint.digest()
        for song in songs:
            file = folder / song.file
            if not file.is_file():
                raise Refused(f"cache: {file}, listed in its index, is missing ({_AGAIN})")
            record = read_record(file)
            if record is None:
                raise Refused(f"cache: {file} is cut short or not a song's ({_AGAIN})")
            if record != song.record() | {"encoding": encoding}:
                raise Refused(f"cache: {file} is not as its index says ({_AGAIN})")
        if not songs:
            raise Refused(f"cache: {folder} holds no song")
        return cls(folder, fingerprint, songs)

    def digest(self) -> str:
        """Identity of the data set: how it was encoded and every song of it, wherever the folder lies."""
        return _digest(
            [self.fingerprint.identity(), sorted((asdict(song) for song in self.songs), key=lambda s: s["name"])]
        )

    def read(self, song: CachedSong) -> "tuple[Float[Tensor, 'frame channel'], Float[Tensor, 'token width']]":
        """Latents and condition of a song, fp32. Raises `Refused` where they are non-finite or not as indexed."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if read_record(self.folder / song.file) != song.record() | {"encoding": self.fingerprint.digest()}:
            raise Refused(f"cache: {song.name}: {self.folder / song.file} is not as its index says ({_AGAIN})")
        try:
            tensors = load_file(self.folder / song.file)
            latents, condition = tensors["latents"], tensors["condition"]
        except (OSError, SafetensorError, KeyError) as error:
            raise Refused(f"cache: {song.name}: {self.folder / song.file} cannot be read ({error})") from error
        expected = [(song.frames, self.fingerprint.latent_channels), (song.tokens, self.fingerprint.condition_width)]
        if [tuple(latents.shape), tuple(condition.shape)] != expected:
            raise Refused(
                f"cache: {song.name}: {self.folder / song.file} has other shapes than its index says ({_AGAIN})"
            )
        if not (latents.isfinite().all() and condition.isfinite().all()):
            raise Refused(f"cache: {song.name}: {self.folder / song.file} holds non-finite values")
        return latents, condition

    def check_model(self, model: Model) -> None:
        """Raise `Refused` where the songs were encoded by another variant or by other weights than the model's.

        Weights are hashed only if their files are not those remembered; torch is not needed. Of songs that another
        trainer encoded, variant and sizes are all that can be compared.
        """
        found = self.fingerprint
        for what, ours, theirs in [
            ("variant", found.variant, model.name),
            ("timbre", found.timbre, found.timbre if found.is_foreign else model.timbre),
            ("latent channels", found.latent_channels, model.config("vae")["decoder_input_channels"]),
            ("condition width", found.condition_width, model.config("condition_encoder")["hidden_size"]),
        ]:
            if ours != theirs:
                raise Refused(f"cache: {self.folder} was encoded for {what} {ours}, the model has {theirs}")
        if found.is_foreign:
            return
        if found.weights_files != stamps(model.checkpoint) and found.weights != hash_weights(model.checkpoint):
            raise Refused(
                f"cache: {self.folder} was encoded by other weights than those in {model.checkpoint.folder}\n"
                "preprocess the songs again, into another folder"
            )

    def check_template(self, template: str) -> None:
        """Raise `Refused` where the songs' prompts were not written as `template`, the installed pipeline's, says.

        Those of another trainer's songs never were: they pass.
        """
        if not self.fingerprint.is_foreign and self.fingerprint.template != template:
            raise Refused(
                f"cache: {self.folder} was encoded with another prompt template than the installed diffusers uses\n"
                "preprocess the songs again, into another folder"
            )


_AGAIN = "preprocess again to complete it"


def read_index(folder: Path) -> tuple[Fingerprint, tuple[CachedSong, ...]]:
    """The index of a cache. Raises `Refused` where it is missing or not an index."""
    file = folder / INDEX
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise Refused(
                f"cache: {file} has format {index['format']!r}, this version reads {FORMAT}\n"
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


def parse_row(kind: type[Row], data: dict[str, Any]) -> Row:
    """A flat dataclass from JSON. Raises ValueError where a field is missing, unknown or of another type."""
    declared = {field.name: get_origin(field.type) or field.type for field in fields(kind)}
    if set(data) != set(declared):
        raise ValueError(f"fields {', '.join(sorted(set(data) ^ set(declared)))} do not match")
    for name, expected in declared.items():
        accepted = (int, float) if expected is float else (expected,)
        if type(data[name]) not in accepted:
            raise ValueError(f"{name} is {data[name]!r}")
    return kind(**data)


def read_record(file: Path) -> dict[str, Any] | None:
    """The record in the header of a song's file; None where the file is absent, cut short or foreign."""
    try:
        record = json.loads(read_header(file).metadata["record"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
