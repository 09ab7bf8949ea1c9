"""Where the parts of a checkpoint lie on disk, in either of the two layouts, under diffusers' names. No torch.

diffusers: a folder for each component under `model_index.json`. Official: one folder with `config.json`, all weights of
the variant in `model.safetensors` (or shards under an index) and `silence_latent.pt`; beside it `vae/` and
`Qwen3-Embedding-0.6B/`, which the variants share.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from acetrain.acestep.names import diffusers
from acetrain.acestep.official import OF_PREFIX, component_config
from acetrain.errors import Refused
from acetrain.tensorfile import Stored, read_header

STEMS = {"text_encoder": "model"}
"""Component -> stem of its weights' files, where it is not diffusers' own."""
TEXT_ENCODER = "Qwen3-Embedding-0.6B"
"""Folder of text encoder and tokenizer in the official layout."""
MAIN = "ACE-Step/Ace-Step1.5"
"""Hub id of the release that holds turbo and the parts all variants share."""
SILENCE = "silence_latent"
TIMESTEPS = ("timestep_mu", "timestep_sigma")
"""Keys of the official configuration that tell the density of timesteps."""
FLOATS = frozenset({"F32", "F16", "BF16"})
"""Formats that weights are read from."""


class Slot(NamedTuple):
    """A tensor of a component: its file, its name in there, and how it is stored."""

    file: Path
    key: str
    stored: Stored


class Weights(NamedTuple):
    """The safetensors of one folder: `<stem>.safetensors`, or the shards that `<stem>.safetensors.index.json` names."""

    folder: Path
    stem: str

    def files(self) -> list[Path]:
        whole = self.folder / f"{self.stem}.safetensors"
        if whole.is_file():
            return [whole]
        if not self._index.is_file():
            raise Refused(f"model: {whole} is missing")
        parts = sorted({self.folder / part for part in self._shards().values()})
        for part in parts:
            if not part.is_file():
                raise Refused(f"model: {part}, named by {self._index.name}, is missing")
        return parts

    def tensors(self) -> dict[str, Slot]:
        """The tensors by their names in the files, which must be as the index says."""
        files = self.files()
        found = {key: slot for file in files for key, slot in _slots_of(file)}
        named = self._shards() if self._index.is_file() and files[0].stem != self.stem else {}
        lost = [key for key, part in named.items() if key not in found or found[key].file.name != part]
        unnamed = [key for key in found if named and key not in named]
        for keys, what in ((lost, "is not in the shard it names"), (unnamed, "is in a shard, but not named")):
            if keys:
                raise Refused(f"model: {self._index}: {keys[0]!r} {what}{others(keys)}")
        return found

    @property
    def _index(self) -> Path:
        return self.folder / f"{self.stem}.safetensors.index.json"

    def _shards(self) -> dict[str, str]:
        named = read_json(self._index).get("weight_map")
        if not isinstance(named, dict) or not named or not all(isinstance(part, str) for part in named.values()):
            raise Refused(f"model: {self._index} has no weight_map from tensors to files")
        return named


class Checkpoint:
    """The components of one checkpoint. Raises `Refused` where a file is missing or broken."""

    folder: Path

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of a component as diffusers or transformers write it."""
        return read_json(self.folder_of(component) / "config.json")

    def folder_of(self, component: str) -> Path:
        """The folder in which a component lies alone."""
        raise NotImplementedError

    def files(self, component: str) -> list[Path]:
        """The safetensors files that hold a component."""
        return self.weights(component).files()

    def tensors(self, component: str) -> dict[str, Slot]:
        """The tensors of a component by diffusers' names; only headers are read."""
        return self.weights(component).tensors()

    def weights(self, component: str) -> Weights:
        """Where the weights of a component lie."""
        return Weights(self.folder_of(component), STEMS.get(component, "diffusion_pytorch_model"))

    def said_of_timesteps(self) -> dict[str, float]:
        """`timestep_mu` and `timestep_sigma` of the density the model was trained with, where it says them."""
        return {}

    @property
    def silence_file(self) -> Path | None:
        """The pickle that holds the latents of silence [1, C, T], where they are no tensor of the condition encoder."""
        return None


@dataclass(frozen=True)
class Diffusers(Checkpoint):
    """A folder that `AceStepPipeline.save_pretrained` wrote."""

    folder: Path

    def folder_of(self, component: str) -> Path:
        return self.folder / component


@dataclass(frozen=True)
class Official(Checkpoint):
    """A variant's folder as released, and where the parts lie that variants share."""

    folder: Path
    shared: tuple[Path, ...]
    """Folders looked into for `vae/` and the text encoder, in order."""

    def config(self, component: str) -> dict[str, Any]:
        if component in OF_PREFIX.values():
            return component_config(component, self.released_config, self.folder / "config.json")
        return super().config(component)

    @cached_property
    def released_config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    def folder_of(self, component: str) -> Path:
        name = TEXT_ENCODER if component in ("text_encoder", "tokenizer") else component
        for parent in self.shared:
            if (parent / name).is_dir():
                return parent / name
        looked = ", ".join(str(parent) for parent in self.shared)
        raise Refused(f"model: {name} is not in {looked}\nget it: {download_of([name])} --local-dir {self.shared[-1]}")

    def weights(self, component: str) -> Weights:
        return Weights(self.folder, "model") if component in OF_PREFIX.values() else super().weights(component)

    def tensors(self, component: str) -> dict[str, Slot]:
        if component not in OF_PREFIX.values():
            return super().tensors(component)
        return {name: slot for owner, name, slot in self._released if owner == component}

    @cached_property
    def _released(self) -> list[tuple[str, str, Slot]]:
        """Every tensor of the variant's files: component, diffusers' name, place."""
        found = []
        for key, slot in Weights(self.folder, "model").tensors().items():
            prefix, _, name = key.partition(".")
            if prefix not in OF_PREFIX:
                raise Refused(f"model: {slot.file}: {key!r} belongs to no component of ACE-Step 1.5")
            found.append((OF_PREFIX[prefix], diffusers(name or key), slot))
        return found

    def said_of_timesteps(self) -> dict[str, float]:
        said = {key: self.released_config[key] for key in TIMESTEPS if key in self.released_config}
        for key, value in said.items():
            if type(value) not in (int, float) or (key == "timestep_sigma" and value <= 0):
                raise Refused(f"model: {self.folder / 'config.json'}: {key} is {value!r}")
        return said

    @property
    def silence_file(self) -> Path:
        file = self.folder / f"{SILENCE}.pt"
        if not file.is_file():
            raise Refused(f"model: {file} is missing")
        return file


def open_checkpoint(folder: Path, shared: Sequence[Path]) -> Checkpoint:
    """The checkpoint in `folder`, told by its files; `shared` as in `Official`."""
    if (folder / "model_index.json").is_file() or (folder / "transformer" / "config.json").is_file():
        return Diffusers(folder)
    if (folder / "config.json").is_file():
        return Official(folder, (folder, folder.parent, *shared))
    raise Refused(
        f"model: {folder} holds no checkpoint: neither model_index.json (diffusers) nor config.json (official)"
    )


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Refused(f"model: {file} is missing") from error
    except (OSError, ValueError) as error:
        raise Refused(f"model: {file} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise Refused(f"model: {file} must hold a JSON object")
    return content


def download_of(folders: Sequence[str]) -> str:
    """The command that downloads folders of the main release."""
    return " ".join([f"hf download {MAIN}", *(f"--include '{folder}/*'" for folder in folders)])


def others(keys: Sequence[object]) -> str:
    """How many more than the first there are."""
    return f" ({len(keys) - 1} more like it)" if len(keys) > 1 else ""


def _slots_of(file: Path) -> Iterator[tuple[str, Slot]]:
    try:
        tensors: Mapping[str, Stored] = read_header(file).tensors
    except (OSError, ValueError) as error:
        raise Refused(f"model: {file} cannot be read ({error})") from error
    for key, stored in tensors.items():
        if stored.dtype not in FLOATS:
            raise Refused(
                f"model: {file}: {key!r} is stored as {stored.dtype}, weights are read from {', '.join(sorted(FLOATS))}"
            )
        yield key, Slot(file, key, stored)
