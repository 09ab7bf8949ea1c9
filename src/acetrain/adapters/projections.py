"""VeRA's two random matrices, which all its layers share and none of them trains."""

from collections.abc import Mapping

import torch
from peft.tuners.vera.layer import VeraLayer
from torch import Tensor, nn

NAMES = ("vera_A", "vera_B")


def projections(dit: nn.Module, called: str) -> dict[str, Tensor]:
    """The matrices by name; nothing for an adapter of another type."""
    for layer in dit.modules():
        if isinstance(layer, VeraLayer) and called in layer.vera_lambda_b:
            return {name: getattr(layer, name)[called] for name in NAMES}
    return {}


def draw_projections(dit: nn.Module, called: str, seed: int) -> None:
    """Draw them in fp32, as PEFT would (He initialisation by rows); nothing for an adapter of another type."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, old in projections(dit, called).items():
        bound = (6 / old.shape[1]) ** 0.5
        drawn[name] = torch.empty(old.shape).uniform_(-bound, bound, generator=generator).to(old.device)
    replace_projections(dit, drawn, called)


def replace_projections(dit: nn.Module, state: Mapping[str, Tensor], called: str) -> None:
    """Give every layer these matrices. Raises ValueError if names or shapes differ."""
    ours = {name: tuple(value.shape) for name, value in projections(dit, called).items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if ours != theirs:
        raise ValueError(f"the shared projections are {theirs} there and {ours} here")
    for layer in dit.modules():
        if isinstance(layer, VeraLayer) and called in layer.vera_lambda_b:
            for name, value in state.items():
                shared = getattr(layer, name)
                shared[called] = value.to(shared[called].device)
