"""ComfyUI's file: one safetensors under official names, with an alpha for every module; it reads no configuration."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.adapters.files.peft import PREFIX
from acetrain.adapters.files.written import write
from acetrain.adapters.held import Pairs


def save(pairs: Pairs, file: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Write a LoRA."""
    tensors: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        key = PREFIX + official(name)
        tensors |= {f"{key}.lora_A.weight": pair.a, f"{key}.lora_B.weight": pair.b}
        tensors[f"{key}.alpha"] = torch.tensor(pair.alpha)
    write(tensors, file, dtype, metadata)
