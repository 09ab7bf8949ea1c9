"""Low-rank updates written as a LoRA that PEFT reads, like one that was trained."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from acetrain.acestep.names import official
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

    B is written over the module's strength, 1 where it has none, which the configuration gives back; `metadata` goes
    into the header of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, update in updates.items():
        key, kernel = f"{PREFIX}{official(name)}", update.kernel
        a, b = update.a, update.b / strengths.get(name, 1.0)
        tensors[f"{key}.lora_A.weight"] = a.reshape(update.rank, -1, *kernel).to(dtype).contiguous()
        tensors[f"{key}.lora_B.weight"] = b.reshape(*b.shape, *(1 for _ in kernel)).to(dtype).contiguous()
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})
    sizes = {name: (update.rank, strengths.get(name, 1.0)) for name, update in updates.items()}
    write_text(folder / CONFIG, json.dumps(configuration(sizes, rslora, base), indent=2, sort_keys=True))


def configuration(sizes: Mapping[str, tuple[int, float]], rslora: bool, base: str) -> dict[str, Any]:
    """PEFT's configuration of a LoRA whose modules have these ranks and strengths; the rest is PEFT's default.

    The commonest rank and alpha stand for all, patterns name the modules that have others.
    """
    alphas = {name: strength * (math.sqrt(rank) if rslora else rank) for name, (rank, strength) in sizes.items()}
    rank = Counter(rank for rank, _ in sizes.values()).most_common(1)[0][0]
    alpha = Counter(alphas[name] for name, (own, _) in sizes.items() if own == rank).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": rslora,
        "use_dora": False,
        "rank_pattern": {official(name): own for name, (own, _) in sizes.items() if own != rank},
        "alpha_pattern": {official(name): own for name, own in alphas.items() if own != alpha},
        "target_modules": sorted(map(official, sizes)),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "task_type": None,
    }
