"""A data set of encoded songs on disk: one safetensors file a song, and an index of them.

The folder holds `index.json` and `songs/<id>.safetensors`; nothing in it depends on where it lies.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.acestep.model import Model
from acetrain.acestep.weights import hash_weights, stamps
from acetrain.data.index import CachedSong, Fingerprint, digest_of, read_index, read_record
from acetrain.data.variants import Take
from acetrain.errors import Refused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Pair = tuple[Float[Tensor, "frame channel"], Float[Tensor, "token width"]]

_AGAIN = "preprocess again to complete it"


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
        return digest_of(
            [self.fingerprint.identity(), sorted((song.stated() for song in self.songs), key=lambda s: s["name"])]
        )

    def read(self, song: CachedSong, take: Take | None = None) -> "Pair":
        """Latents and condition of a song, fp32: the whole song as it is written, or what a visit takes of it.

        Raises `Refused` where they are non-finite or not as indexed.
        """
        from safetensors import SafetensorError

        file, take = self.folder / song.file, take or song.as_written()
        if read_record(file) != song.record() | {"encoding": self.fingerprint.digest()}:
            raise Refused(f"cache: {song.name}: {file} is not as its index says ({_AGAIN})")
        try:
            latents, condition = self._taken(file, song, take)
        except (OSError, SafetensorError) as error:
            raise Refused(f"cache: {song.name}: {file} cannot be read ({error})") from error
        except ValueError as error:
            raise Refused(f"cache: {song.name}: {file} has other shapes than its index says ({_AGAIN})") from error
        if not (latents.isfinite().all() and condition.isfinite().all()):
            raise Refused(f"cache: {song.name}: {file} holds non-finite values")
        return latents, condition

    def _taken(self, file: Path, song: CachedSong, take: Take) -> "Pair":
        """What is taken of a song's file. Raises ValueError where its shapes are not those of the index."""
        import torch
        from safetensors import safe_open

        width, variants = self.fingerprint.condition_width, song.variants
        with safe_open(file, "pt") as held:
            frames, condition = held.get_slice("latents"), held.get_tensor("condition")
            head, tail = condition, condition[:0]
            expected = [[song.frames, self.fingerprint.latent_channels], [song.tokens, width]]
            found = [frames.get_shape(), list(condition.shape)]
            if variants:
                head, tail = condition[: variants.head], condition[variants.head :]
            if variants and take.lyrics:
                head = held.get_tensor(f"lyrics.{take.lyrics}")
                expected, found = [*expected, [variants.lyrics[take.lyrics - 1], width]], [*found, list(head.shape)]
            if variants and take.text:
                tail = held.get_tensor(f"text.{take.text}")
                expected, found = [*expected, [variants.texts[take.text - 1], width]], [*found, list(tail.shape)]
            if found != expected:
                raise ValueError(f"{found} instead of {expected}")
            latents = frames[take.start : take.start + take.frames]
        return latents.float(), torch.cat([head, tail]).float()

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
