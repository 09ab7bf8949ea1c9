"""A random checkpoint in the official layout, as much of it as training loads."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.names import official

HEAD = 128
"""Width of an attention head in the released models."""


def configuration(width: int, layers: int) -> dict[str, Any]:
    """An official `config.json` of a DiT with the proportions of the 2B one."""
    return {
        "model_version": "base",
        "is_turbo": False,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "num_key_value_heads": max(1, width // HEAD // 2),
        "head_dim": HEAD,
        "in_channels": 192,
        "audio_acoustic_hidden_dim": 64,
        "timbre_hidden_dim": 64,
        "text_hidden_dim": 1024,
        "patch_size": 2,
        "sliding_window": 128,
        "rope_theta": 1000000,
        "rms_norm_eps": 1e-06,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(layers)],
        "timestep_mu": -0.4,
        "timestep_sigma": 1.0,
    }


def write(folder: Path, width: int, layers: int, shards: int) -> int:
    """Write the checkpoint in bf16 to a new folder, in one file or in shards under an index; the bytes of its DiT."""
    folder.mkdir(parents=True)
    config = configuration(width, layers)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(torch.randn(1, 64, 15000), folder / "silence_latent.pt")
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    with torch.device("meta"):
        dit = MaskedDiT(**{key: config[key] for key in kept})
    shapes = {f"decoder.{official(name)}": tensor.shape for name, tensor in dit.state_dict().items()}
    size = 2 * sum(shape.numel() for shape in shapes.values())
    shapes["null_condition_emb"] = torch.Size([1, 1, width])
    names = sorted(shapes)
    parts = {f"model-{part + 1:05}-of-{shards:05}.safetensors": names[part::shards] for part in range(shards)}
    if shards == 1:
        parts = {"model.safetensors": names}
    else:
        index = {name: file for file, held in parts.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    draw = torch.Generator().manual_seed(0)
    for file, held in parts.items():
        save_file({name: _random(shapes[name], draw) for name in held}, folder / file, metadata={"format": "pt"})
    return size


def _random(shape: torch.Size, draw: torch.Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=draw)
