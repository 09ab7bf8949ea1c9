"""PEFT's configuration of a LoRA by what its modules are. No torch."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from acetrain.acestep.names import official


def lora_configuration(
    ranks: Mapping[str, int], alphas: Mapping[str, float], rslora: bool, base: str, dora: bool = False
) -> dict[str, Any]:
    """The configuration of a LoRA whose modules, by diffusers name, have these ranks and alphas; the rest is PEFT's
    default.

    The commonest rank and alpha stand for all, patterns name the modules that have others.
    """
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas[name] for name, own in ranks.items() if own == rank).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": rslora,
        "use_dora": dora,
        "rank_pattern": {official(name): own for name, own in ranks.items() if own != rank},
        "alpha_pattern": {official(name): own for name, own in alphas.items() if own != alpha},
        "target_modules": sorted(map(official, ranks)),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "task_type": None,
    }
