"""The DiT's own weights made trainable."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def release(dit: nn.Module, names: Sequence[str] | None) -> None:
    """Let the weights and biases of the modules `names` train, in fp32; all of the DiT's where it is None."""
    for module in [dit] if names is None else [dit.get_submodule(name) for name in names]:
        for parameter in module.parameters():
            parameter.data = parameter.detach().to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        if names is not None:
            _bridge(module)


def _bridge(module: nn.Module) -> None:
    """Let the module take inputs in any format and answer in theirs, as the layers around it may have another."""
    forward, weight = module.forward, module.weight
    assert isinstance(weight, Tensor)

    def bridged(inputs: Tensor) -> Tensor:
        return forward(inputs.to(weight.dtype)).to(inputs.dtype)

    module.forward = bridged
