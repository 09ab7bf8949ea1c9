"""What the encoding of songs has come to between its passes, so that a kill loses little."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from acetrain import atomic
from acetrain.tensorfile import read_header

FOLDER = "staging"


@dataclass(frozen=True)
class Stage:
    """Parts of songs in a folder of their own inside a cache."""

    cache: Path

    def holds(self, song: str, part: str, made_of: object) -> bool:
        """Whether a part of a song is there whole, and made of this."""
        try:
            return read_header(self._file(song, part)).metadata.get("made_of") == _digest(made_of)
        except (OSError, ValueError):
            return False

    def read(self, song: str, part: str) -> dict[str, Tensor]:
        """A part of a song that is there."""
        return load_file(self._file(song, part))

    def write(self, song: str, part: str, made_of: object, tensors: Mapping[str, Tensor]) -> None:
        """Keep a part of a song; `made_of` is all that it follows from."""
        self._file(song, part).parent.mkdir(parents=True, exist_ok=True)
        kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        atomic.write_bytes(self._file(song, part), save(kept, metadata={"made_of": _digest(made_of)}))

    def drop(self, song: str) -> None:
        """Forget the parts of a song."""
        for file in (self.cache / FOLDER).glob(f"{_digest(song)[:24]}.*"):
            file.unlink()

    def tidy(self) -> None:
        """Remove the folders if nothing is in them."""
        for folder in (self.cache / FOLDER, self.cache):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def clear(self) -> None:
        """Forget everything."""
        if (self.cache / FOLDER).exists():
            shutil.rmtree(self.cache / FOLDER)

    def _file(self, song: str, part: str) -> Path:
        return self.cache / FOLDER / f"{_digest(song)[:24]}.{part}.safetensors"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
