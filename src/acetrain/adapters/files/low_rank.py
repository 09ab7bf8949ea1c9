"""Low-rank updates written as a LoRA that PEFT reads, like one that was trained."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from acetrain.acestep.names import official
from acetrain.adapters.files.configuration import lora_configuration
from acetrain.adapters.files.peft import CONFIG, PREFIX, WEIGHTS
from acetrain.adapters.low_rank import LowRank
from acetrain.atomic import replacing, write_text


def save(
    updates: Mapping[str, LowRank],
    strengths: Mapping[str, float],
    rslora: bool,
    dtype: torch.dtype,
    folder: Path,
    base: str,
    metadata: Mapping[str, str],
) -> None:
    """Write updates, by diffusers name of their module, as a PEFT folder under official names.

    B is written over the module's strength, 1 where it has none or is 0, which the configuration gives back; `metadata`
    goes into the header of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    strengths = {name: strengths.get(name) or 1.0 for name in updates}
    tensors = {}
    for name, update in updates.items():
        key, kernel = f"{PREFIX}{official(name)}", update.kernel
        a, b = update.a, update.b / strengths[name]
        tensors[f"{key}.lora_A.weight"] = a.reshape(update.rank, -1, *kernel).to(dtype).contiguous()
        tensors[f"{key}.lora_B.weight"] = b.reshape(*b.shape, *(1 for _ in kernel)).to(dtype).contiguous()
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})
    ranks = {name: update.rank for name, update in updates.items()}
    alphas = {name: strengths[name] * (math.sqrt(rank) if rslora else rank) for name, rank in ranks.items()}
    config = lora_configuration(ranks, alphas, rslora, base)
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True))
