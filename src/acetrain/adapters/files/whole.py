"""Trained weights of the DiT itself: one safetensors under the names of the official checkpoint, in fp32."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files.found import AdapterFiles
from acetrain.atomic import replacing
from acetrain.errors import Refused
from acetrain.tensorfile import Header, read_header

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "full"
WEIGHTS = "trained_weights.safetensors"
PREFIX = "decoder."
_WHAT = "trained"
"""Entry of the header that says which weights there are."""


def is_own(header: Header) -> bool:
    """Whether a file is one of these."""
    return _WHAT in header.metadata and all(name.startswith(PREFIX) for name in header.tensors)


def is_everything(files: AdapterFiles) -> bool:
    """Whether all of the DiT's weights are there."""
    return read_header(files.weights).metadata[_WHAT] == "everything"


def modules(files: AdapterFiles) -> set[str]:
    """The modules that the file has weights of, in diffusers spelling."""
    return {_attached(name).rpartition(".")[0] for name in read_header(files.weights).tensors}


def save(dit: "nn.Module", folder: Path, metadata: Mapping[str, str]) -> None:
    """Write the DiT's trained weights, with `metadata` in the header."""
    from safetensors.torch import save_file

    from acetrain.adapters.injection import adapter_state

    folder.mkdir(parents=True, exist_ok=True)
    state = adapter_state(dit)
    everything = len(state) == len(list(dit.parameters()))
    weights = {PREFIX + official(name): value.contiguous() for name, value in state.items()}
    header = {"format": "pt", **metadata, _WHAT: "everything" if everything else "modules"}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata=header)


def load(dit: "nn.Module", adapters: Sequence[tuple[AdapterFiles, float]]) -> None:
    """Move the DiT's weights to the trained ones: W + scale (W' - W), in their own format.

    Raises Refused where names or shapes are not the DiT's.
    """
    import torch

    parameters = dict(dit.named_parameters())
    for files, scale in adapters:
        for name, trained in _read(files, {name: tuple(value.shape) for name, value in parameters.items()}).items():
            weight = parameters[name]
            trained = trained.to(weight.device)
            with torch.no_grad():
                weight.data = (trained if scale == 1 else weight.float().lerp(trained, scale)).to(weight.dtype)


def fill(dit: "nn.Module", files: AdapterFiles) -> None:
    """Give the weights that train their values in the file. Raises Refused where they are not the same weights."""
    from acetrain.adapters.injection import copy_into, trainable

    weights = trainable(dit)
    try:
        copy_into(weights, _read(files, {name: tuple(value.shape) for name, value in weights.items()}))
    except ValueError as error:
        raise Refused(f"adapter_path: {files.weights} does not fit this model: {error}") from error


def _read(files: AdapterFiles, shapes: Mapping[str, tuple[int, ...]]) -> "dict[str, Tensor]":
    """The file's tensors in fp32 under diffusers names. Raises Refused for a name or shape that is not in `shapes`."""
    tensors = {_attached(name): value.float() for name, value in files.read().items()}
    for name, value in tensors.items():
        if shapes.get(name) != tuple(value.shape):
            raise Refused(
                f"adapter_path: {files.weights} does not fit this model: {official(name)} is {list(value.shape)} there "
                f"and {list(shapes[name]) if name in shapes else 'nothing'} here"
            )
    return tensors


def _attached(filed: str) -> str:
    return diffusers(filed.removeprefix(PREFIX))
