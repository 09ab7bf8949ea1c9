"""Adapters as other tools write them, from the same factors."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from test_kinds import LAYERS, NAMES
from torch import Tensor

from acetrain.acestep.names import official

RANKS = dict(zip(NAMES, (4, 2, 4, 3, 4), strict=True))
ALPHAS = dict(zip(NAMES, (8.0, 6.0, 8.0, 1.0, 8.0), strict=True))


def factors() -> dict[str, tuple[Tensor, Tensor]]:
    """A [rank, inputs] and B [outputs, rank] of each module, exact in 16 bits."""
    draw = torch.Generator().manual_seed(3)
    made = {}
    for name, rank in RANKS.items():
        outputs, inputs = LAYERS[name]
        a, b = torch.randn(rank, inputs, generator=draw), 0.1 * torch.randn(outputs, rank, generator=draw)
        made[name] = a.bfloat16().float(), b.bfloat16().float()
    return made


def truth() -> dict[str, Tensor]:
    """What the adapter adds to each weight."""
    return {name: ALPHAS[name] / RANKS[name] * b @ a for name, (a, b) in factors().items()}


def tensors(spell: Callable[[str], str], a: str, b: str, alpha: bool = False) -> dict[str, Tensor]:
    """The factors under `spell`ed names with these ends, and alphas beside them."""
    found = {}
    for name, (first, second) in factors().items():
        found |= {f"{spell(name)}.{a}": first, f"{spell(name)}.{b}": second}
        found |= {f"{spell(name)}.alpha": torch.tensor(ALPHAS[name])} if alpha else {}
    return found


def config(spell: Callable[[str], str] = official, **changes: Any) -> dict[str, Any]:
    """PEFT's configuration of it."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": "tiny",
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {spell(name): rank for name, rank in RANKS.items() if rank != 4},
        "alpha_pattern": {spell(name): alpha for name, alpha in ALPHAS.items() if alpha != 8},
        **changes,
    }


def write(folder: Path, content: Mapping[str, Tensor], configuration: Mapping[str, Any] | None = None) -> Path:
    """An adapter's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(content), folder / "adapter_model.safetensors")
    if configuration is not None:
        (folder / "adapter_config.json").write_text(json.dumps(configuration))
    return folder


def single(folder: Path, content: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """One file of any name."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(content), folder / "my song style.safetensors", metadata=metadata)
    return folder / "my song style.safetensors"


def _flat(start: str) -> Callable[[str], str]:
    return lambda name: start + official(name).replace(".", "_")


def _after(start: str) -> Callable[[str], str]:
    return lambda name: start + official(name)


def _official_run(folder: Path) -> Path:
    write(folder / "final" / "adapter", tensors(_after("base_model.model."), *PEFT), config())
    write(folder / "checkpoints" / "epoch_3" / "adapter", {"x": torch.zeros(1)}, config())
    (folder / "checkpoints" / "epoch_3" / "training_state.pt").write_bytes(b"not to be read")
    return folder


def _epoch(folder: Path) -> Path:
    write(folder, tensors(_after("base_model.model."), *PEFT), config())
    (folder / "training_state.pt").write_bytes(b"not to be read")
    return folder


def _in_diffusers(folder: Path) -> Path:
    said = {f"transformer.{key}": value for key, value in config(str).items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(said)}
    return single(folder, tensors(lambda name: f"transformer.{name}", *PEFT), metadata)


PEFT = ("lora_A.weight", "lora_B.weight")
KOHYA = ("lora_down.weight", "lora_up.weight")
DEFAULT = ("lora_A.default.weight", "lora_B.default.weight")

PRODUCERS: dict[str, Callable[[Path], Path]] = {
    "infix": lambda folder: write(folder, tensors(_after("base_model.model."), *DEFAULT), config()),
    "doubled": lambda folder: write(folder, tensors(_after("base_model.model." * 2), *PEFT), config()),
    "compiled": lambda folder: write(folder, tensors(_after("base_model.model._orig_mod."), *PEFT), config()),
    "diffusers names": lambda folder: write(
        folder, tensors(lambda name: f"base_model.model.{name}", *PEFT), config(str)
    ),
    "run": _official_run,
    "epoch": lambda folder: _epoch(folder / "checkpoints" / "epoch_10_loss_0.9"),
    "comfyui": lambda folder: single(folder, tensors(_after("base_model.model."), *PEFT, alpha=True)),
    "comfyui native": lambda folder: single(folder, tensors(_after("diffusion_model.decoder."), *PEFT, alpha=True)),
    "kohya": lambda folder: single(folder, tensors(_flat("lora_unet_decoder_"), *KOHYA, alpha=True)),
    "kohya in bf16": lambda folder: single(
        folder, {key: value.bfloat16() for key, value in tensors(_flat("lora_unet_"), *KOHYA, alpha=True).items()}
    ),
    "locon": lambda folder: single(folder, tensors(_flat("lycoris_"), *KOHYA, alpha=True)),
    "diffusers": _in_diffusers,
    "delta": lambda folder: single(
        folder, {f"diffusion_model.decoder.{official(name)}.diff": change for name, change in truth().items()}
    ),
}
"""Producer -> what writes its file or folder; what to give as `adapter_path` comes back."""
