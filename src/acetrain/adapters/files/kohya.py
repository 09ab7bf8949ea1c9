"""kohya's file: one safetensors under official names with underscores, down and up, with an alpha for every module."""

from collections.abc import Mapping
from pathlib import Path

import torch

from acetrain.acestep.names import official
from acetrain.adapters.files.written import write
from acetrain.adapters.held import Products

PREFIX = "lora_unet_decoder_"


def save(products: Products, file: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Write a LoRA as LyCORIS' LoCon, a LoHa or a LoKr: kohya names their parts alike."""
    tensors = {
        f"{PREFIX}{official(name).replace('.', '_')}.{part}": tensor
        for name, parts in products.items()
        for part, tensor in parts.items()
    }
    write(tensors, file, dtype, metadata)
