"""PEFT adapters inside the DiT: attaching, reading and writing their weights."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.peft_types import PeftType
from torch import Tensor, nn

from acetrain.adapters.layers import holds, redraw, to_fp32
from acetrain.adapters.projections import draw_projections
from acetrain.keyed import seed_of

NAME = "default"
"""PEFT's name of the adapter that trains, or of the first of several."""
START = "start"
"""PEFT's name of the frozen adapter that takes off what the trained one began with."""


def inject(dit: nn.Module, config: PeftConfig, names: Sequence[str], seed: int, called: str = NAME) -> None:
    """Attach the adapter `config` describes to exactly `names`, initialised from `seed` in fp32.

    Raises RuntimeError if PEFT wrapped other modules than the named ones.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        PEFT_TYPE_TO_TUNER_MAPPING[PeftType(config.peft_type)](dit, config, called)
        layers = adapter_layers(dit, called)
        if set(layers) != set(names):
            raise RuntimeError(f"PEFT attached to {sorted(set(layers) ^ set(names))[:5]} against the selection")
        torch.manual_seed(seed_of(seed, "adapter"))
        for name in names:
            to_fp32(layers[name], called)
            redraw(layers[name], called, config)
        draw_projections(dit, called, seed_of(seed, "projection"))


def peft_config(dit: nn.Module) -> PeftConfig:
    """The configuration that `inject` was given, as PEFT keeps it on the model."""
    configs: dict[str, PeftConfig] = getattr(dit, "peft_config")  # noqa: B009  (PEFT sets it on any module)
    return configs[NAME]


def adapter_layers(dit: nn.Module, called: str = NAME) -> dict[str, Any]:
    """PEFT's layers (`BaseTunerLayer`) in place of the modules that the adapter wraps, by name."""
    return {name: module for name, module in dit.named_modules() if holds(module, called)}


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _kept(dit: nn.Module) -> dict[str, nn.Parameter]:
    """What trains, and the first weights where the adapter is told from them."""
    first = {name: parameter for name, parameter in dit.named_parameters() if START in name.split(".")}
    return trainable(dit) | first


def adapter_state(dit: nn.Module) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in _kept(dit).items()}


def load_adapter_state(dit: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `adapter_state` gave. Raises ValueError if names or shapes differ."""
    copy_into(_kept(dit), state)


def copy_into(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Give the parameters the values in `state`. Raises ValueError if names or shapes differ."""
    ours = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if ours != theirs:
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        first = differing[0]
        raise ValueError(f"{first} is {theirs.get(first)} there and {ours.get(first)} here, {len(differing)} differ")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
