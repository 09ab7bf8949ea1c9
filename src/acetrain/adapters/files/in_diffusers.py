"""diffusers' file: one safetensors under diffusers names, PEFT's configuration in its header."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from acetrain.adapters.files.configuration import lora_configuration
from acetrain.adapters.files.recognise import METADATA, OF_DIT
from acetrain.adapters.files.written import write
from acetrain.adapters.held import Pairs

_KEYS = ("r", "lora_alpha", "use_rslora", "use_dora", "lora_bias")
"""What PEFT's configuration must say; without it diffusers applies every module at 1."""


def save(pairs: Pairs, file: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Write a LoRA."""
    ranks = {name: pair.rank for name, pair in pairs.items()}
    alphas = {name: pair.alpha for name, pair in pairs.items()}
    config = lora_configuration(ranks, alphas, rslora=False, base="")
    said = {key: config[key] for key in _KEYS} | {
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != config["r"]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != config["lora_alpha"]},
        "target_modules": sorted(ranks),
    }
    tensors: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        tensors |= {f"{OF_DIT}{name}.lora_A.weight": pair.a, f"{OF_DIT}{name}.lora_B.weight": pair.b}
    header = {METADATA: json.dumps({OF_DIT + key: value for key, value in said.items()}, sort_keys=True)}
    write(tensors, file, dtype, {**metadata, **header})
