"""How other programs read an adapter, each giving what it adds to the weights, by diffusers name."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from fabricate import base, official_module
from lycoris.wrapper import create_lycoris_from_weights
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from test_kinds import LAYERS, effective
from torch import Tensor, nn

from acetrain.acestep.names import official


def _difference(changed: Callable[[str], nn.Module]) -> dict[str, Tensor]:
    plain = dict(base().dit.named_parameters())
    return {name: effective(changed(name), LAYERS[name][1]) - plain[f"{name}.weight"] for name in LAYERS}


def peft(folder: Path) -> dict[str, Tensor]:
    """PEFT itself on official names, as the official app does."""
    read = PeftModel.from_pretrained(official_module(), str(folder)).base_model.model
    return _difference(lambda name: read.get_submodule(official(name)))  # pyright: ignore


def diffusers(file: Path) -> dict[str, Tensor]:
    """diffusers' own loading into the DiT, by the header's metadata as its pipeline passes it on."""
    dit = base().dit
    with safe_open(file, "pt") as stored:
        said = json.loads(stored.metadata()["lora_adapter_metadata"])
    dit.load_lora_adapter(load_file(file), prefix="transformer", metadata=said)
    return _difference(dit.get_submodule)


def lycoris(file: Path) -> dict[str, Tensor]:
    """LyCORIS' own loader on official names."""
    read = official_module()
    network, _ = create_lycoris_from_weights(1.0, str(file), read)
    network.apply_to()
    return _difference(lambda name: read.get_submodule(official(name)))


def comfyui(file: Path) -> dict[str, Tensor]:
    """ComfyUI's rules, written down: it goes through the model's modules and looks each up under its names."""
    tensors, used = {name: value.float() for name, value in load_file(file).items()}, set()
    found = {}
    for name, shape in LAYERS.items():
        flat = official(name).replace(".", "_")
        starts = [f"base_model.model.{official(name)}", f"diffusion_model.decoder.{official(name)}"]
        starts += [f"lycoris_{flat}", f"lora_unet_decoder_{flat}"]
        parts = {}
        for key in tensors:
            start = next((one for one in starts if key.startswith(f"{one}.")), "")
            if start:
                parts[key.removeprefix(f"{start}.")] = tensors[key]
                used.add(key)
        found[name] = _patch(parts) if parts else torch.zeros(shape)
    assert used == set(tensors), "ComfyUI would not load a key"
    return found


def comfyui_parameters(file: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """ComfyUI's rules for whole differences, written down: what is added to each of the DiT's parameters, of these
    diffusers names, that the file has something for."""
    tensors, found = load_file(file), {}
    for name in names:
        module, _, kind = official(name).rpartition(".")
        starts = [f"base_model.model.{module}", f"diffusion_model.decoder.{module}"]
        keys = [f"{start}.{'diff' if kind == 'weight' else 'diff_b'}" for start in starts]
        keys = keys if kind in ("weight", "bias") else [f"diffusion_model.decoder.{official(name)}.diff"]
        for key in keys:
            if key in tensors:
                found[name] = tensors.pop(key)
    assert not tensors, "ComfyUI would not load a key"
    return found


def _patch(parts: dict[str, Tensor]) -> Tensor:
    if "diff" in parts:
        return parts["diff"]
    alpha = parts["alpha"].item() if "alpha" in parts else None
    for up, down in (("lora_B.weight", "lora_A.weight"), ("lora_up.weight", "lora_down.weight")):
        if up in parts:
            return (1.0 if alpha is None else alpha / len(parts[down])) * parts[up] @ parts[down]
    if "hada_w1_a" in parts:
        strength = 1.0 if alpha is None else alpha / len(parts["hada_w1_b"])
        first, second = (parts[f"hada_w{i}_a"] @ parts[f"hada_w{i}_b"] for i in (1, 2))
        return strength * first * second
    rank, sides = None, []
    for side in ("lokr_w1", "lokr_w2"):
        if side not in parts:
            rank = len(parts[f"{side}_b"])
        sides.append(parts[side] if side in parts else parts[f"{side}_a"] @ parts[f"{side}_b"])
    return (1.0 if alpha is None or rank is None else alpha / rank) * torch.kron(*sides)


READERS = {
    "peft": peft,
    "comfyui": comfyui,
    "diffusers": diffusers,
    "lycoris": lycoris,
    "kohya": comfyui,
    "delta": comfyui,
}
"""Format -> who reads it."""


def close(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-5) -> None:
    """Whether all that is added agrees, by the norm of each module's change, and is there at all."""
    total = math.sqrt(sum(change.norm().item() ** 2 for change in expected.values()))
    assert total > 0.1
    for name, change in expected.items():
        assert (found[name] - change).norm() <= relative * total, name
