"""First weights of a LoRA other than PEFT's own.

OLoRA, PiSSA, CorDA and LoRA-GA begin with an update that is taken off W. Here W stays as it is: a second, frozen
adapter with the first weights takes them off, so that W + s (B A - B0 A0) is trained, and saved as one LoRA of twice
the rank.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn

from acetrain.adapters.injection import NAME, START, adapter_layers, inject, peft_config
from acetrain.adapters.layers import measure_magnitude
from acetrain.keyed import seed_of


def initialise(dit: nn.Module, names: Sequence[str], init: str, seed: int) -> None:
    """Give the attached LoRA on `names` the first weights that `init` names."""
    layers = adapter_layers(dit)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "init"))
        for name in names:
            _begin(layers[name], init)


def _begin(layer: Any, init: str) -> None:
    a, b, base = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight, layer.get_base_layer()
    if init == "gaussian":
        layer.reset_lora_parameters(NAME, "gaussian")
    elif init == "orthogonal":
        a.data, b.data = (drawn.to(a.device) for drawn in orthogonal(layer.r[NAME], *base.weight.shape))
        if NAME in layer.lora_magnitude_vector:
            measure_magnitude(layer, NAME)
    else:
        with kept(layer):
            layer.olora_init(NAME) if init == "olora" else layer.pissa_init(NAME, "pissa")


@contextmanager
def kept(layer: Any) -> Iterator[None]:
    """Within it the base's weight may be written over; it is put back at the end."""
    base = layer.get_base_layer()
    weight = base.weight.data
    base.weight.data = weight.clone()
    try:
        yield
    finally:
        base.weight.data = weight


def orthogonal(rank: int, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """A [rank, inputs] and B [outputs, rank], neither zero, with B A = 0: from rows of one orthogonal matrix (as in
    PEFT's `orthogonal_init`)."""
    q, _ = torch.linalg.qr(torch.randn(rank, rank))
    a = (torch.randn(inputs, rank // 2) @ q[0::2]).T / 10
    b = torch.randn(rank // 2, outputs).T @ q[1::2] / 10
    return a.contiguous(), b.contiguous()


def take_off(dit: nn.Module, names: Sequence[str]) -> None:
    """Attach the weights that the LoRA has now once more, frozen and negative."""
    config = copy(peft_config(dit))
    setattr(config, "lora_dropout", 0.0)  # noqa: B010  (a LoraConfig's)
    inject(dit, config, names, 0, START)
    for layer in adapter_layers(dit).values():
        layer.scaling[START] = -layer.scaling[NAME]
        layer.set_adapter([NAME, START])
        layer.set_requires_grad(START, False)
    taken_off(dit)


def taken_off(dit: nn.Module) -> None:
    """Let what is taken off be what the LoRA adds now."""
    with torch.no_grad():
        for layer in adapter_layers(dit).values():
            for part in (layer.lora_A, layer.lora_B):
                part[START].weight.copy_(part[NAME].weight)


def joined(weights: Mapping[str, Tensor], config: PeftConfig) -> tuple[dict[str, Tensor], PeftConfig]:
    """Trained and first weights as one LoRA for the untouched base, and its configuration: the same strength.

    Without first weights, both as they are.
    """
    if not any(START in name.split(".") for name in weights):
        return dict(weights), config
    single: dict[str, Tensor] = {}
    for name, trained in weights.items():
        if NAME not in name.split("."):
            continue
        first = weights[name.replace(f".{NAME}.", f".{START}.")]
        single[name] = torch.cat([trained, -first], dim=1) if ".lora_B." in name else torch.cat([trained, first])
    return single, _doubled(config)


def _doubled(config: Any) -> PeftConfig:
    doubled = copy(config)
    more = math.sqrt(2) if config.use_rslora else 2
    doubled.r, doubled.lora_alpha = 2 * config.r, more * config.lora_alpha
    doubled.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    doubled.alpha_pattern = {name: more * alpha for name, alpha in config.alpha_pattern.items()}
    return doubled
