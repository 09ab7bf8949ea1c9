"""Tensors of an adapter written to one safetensors, in a format of choice."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from acetrain.atomic import replacing
from acetrain.errors import Refused


def write(tensors: Mapping[str, Tensor], file: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Write tensors in `dtype`, or each in its own for None, with `metadata` in the header; alphas stay in fp32.

    Raises Refused where a value is too large for the format.
    """
    cast = {name: _cast(name, tensor, dtype) for name, tensor in tensors.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        save_file(cast, temporary, metadata={"format": "pt", **metadata})


def _cast(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if name.endswith(".alpha"):
        return tensor.float()
    found = tensor.to(dtype or tensor.dtype).contiguous()
    if not torch.isfinite(found).all():
        largest = f"{tensor.abs().max().item():.3g}"
        raise Refused(f"dtype: must hold {name}, whose largest value is {largest}, got {dtype}; bf16 and fp32 do")
    return found
