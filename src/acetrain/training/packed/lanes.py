"""A DiT that several trainings run through side by side: each row of a batch meets the layers of its own training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from acetrain.acestep.dit import MaskedDiT


class Rows:
    """How many rows of the present batch are each lane's; the lanes' rows follow one another."""

    counts: tuple[int, ...] = ()


class Lanes(nn.Module):
    """The layers that stand in one place of each lane's DiT: each computes the rows of its lane.

    They stay parts of their own DiTs alone; what is trained, moved and saved is found there.
    """

    def __init__(self, layers: Sequence[nn.Module], rows: Rows) -> None:
        super().__init__()
        self.layers, self.rows = tuple(layers), rows

    def forward(self, inputs: Tensor) -> Tensor:
        """What the lanes make of `inputs`, whose first dimension is the batch's rows."""
        parts = inputs.split(self.rows.counts)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True) if len(part)])


def pack(dit: MaskedDiT, lanes: Sequence[MaskedDiT], rows: Rows) -> None:
    """Put `Lanes` into a copy of the base wherever one of the lanes' DiTs, which share its weights, is no longer as it.

    Raises ValueError where that is no linear layer, so that its rows cannot be told apart.
    """
    replaced: list[str] = []
    for name, module in list(dit.named_modules()):
        if any(name.startswith(f"{one}.") for one in replaced):
            continue
        layers = [lane.get_submodule(name) for lane in lanes]
        if any(_changed(module, layer) for layer in layers):
            if not isinstance(module, nn.Linear):
                raise ValueError(f"{name or 'the DiT'} is changed as a {type(module).__name__}")
            dit.set_submodule(name, Lanes(layers, rows))
            replaced.append(name)


def _changed(base: nn.Module, layer: nn.Module) -> bool:
    """Whether a layer may compute otherwise than the base's, what lies within it apart."""
    if type(layer) is not type(base) or "forward" in vars(layer) or layer._modules.keys() != base._modules.keys():
        return True
    numbers = [
        dict(one.named_parameters(recurse=False)) | dict(one.named_buffers(recurse=False)) for one in (base, layer)
    ]
    ours, theirs = ({name: (one.data_ptr(), one.dtype) for name, one in found.items()} for found in numbers)
    trained = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    return trained or ours != theirs


def move_together(modules: Sequence[nn.Module], device: torch.device) -> None:
    """Move modules to a device such that the weights that they share are there once."""
    moved: dict[tuple[int, torch.Size, tuple[int, ...], torch.dtype], Tensor] = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.device != device:
                key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
                if key not in moved:
                    moved[key] = tensor.data.to(device)
                tensor.data = moved[key]
