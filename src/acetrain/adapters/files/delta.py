"""Whole differences of weights: one safetensors under official names, `.diff` of a weight and `.diff_b` of a bias."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.peft import PREFIX
from acetrain.atomic import replacing
from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "delta"
PARTS = {"diff": "weight", "diff_b": "bias"}
"""Part of a file -> the module's parameter that it is added to."""


def parameter_of(filed: str) -> str:
    """The parameter of the DiT, in diffusers spelling, that a tensor is added to."""
    module, _, part = filed.removeprefix(PREFIX).rpartition(".")
    return f"{diffusers(module)}.{PARTS[part]}"


def load(dit: "nn.Module", adapters: Sequence[tuple[AdapterFiles, float]]) -> None:
    """Add the differences to the DiT's weights, each at its scale. Raises Refused where one does not fit."""
    import torch

    parameters = dict(dit.named_parameters())
    for files, scale in adapters:
        for filed, difference in files.read().items():
            name = parameter_of(filed)
            if name not in parameters or parameters[name].shape != difference.shape:
                here = list(parameters[name].shape) if name in parameters else "nothing"
                raise Refused(
                    f"adapter_path: {files.weights} does not fit this model: {official(name)} is "
                    f"{list(difference.shape)} there and {here} here"
                )
            weight = parameters[name]
            with torch.no_grad():
                moved = weight.float() + scale * difference.to(weight.device).float()
                weight.data = moved.to(weight.dtype)


def save(differences: "Mapping[str, Tensor]", file: Path, metadata: Mapping[str, str]) -> None:
    """Write differences of weights, by diffusers name of their module, with `metadata` in the header."""
    from safetensors.torch import save_file

    tensors = {f"{PREFIX}{official(name)}.diff": value.contiguous() for name, value in differences.items()}
    with replacing(file) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})
