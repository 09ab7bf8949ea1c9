"""Whole differences of weights: one safetensors under official names, `.diff` of a weight and `.diff_b` of a bias.

Of a parameter that is neither it is `.diff` as well, under the name that ComfyUI has for it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.peft import PREFIX
from acetrain.adapters.files.spelling import is_table
from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import nn

KIND = "delta"
PARTS = {"diff": "weight", "diff_b": "bias"}
"""Part of a file -> the module's parameter that it is added to."""
_PLAIN = "diffusion_model.decoder."
"""Before the names of parameters that are no module's weight or bias."""


def parameter_of(filed: str) -> str:
    """The parameter of the DiT, in diffusers spelling, that a tensor is added to."""
    module, _, part = filed.removeprefix(PREFIX).removeprefix(_PLAIN).rpartition(".")
    name = diffusers(module)
    return name if is_table(name) else f"{name}.{PARTS[part]}"


def filed_of(parameter: str) -> str:
    """What the difference of a parameter of the DiT is called in a file."""
    if is_table(parameter):
        return f"{_PLAIN}{official(parameter)}.diff"
    module, _, kind = parameter.rpartition(".")
    return f"{PREFIX}{official(module)}.{'diff' if kind == 'weight' else 'diff_b'}"


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
