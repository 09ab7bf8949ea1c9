"""Requests of `inspect` and `export` that must be refused: each with its message, and nothing changed on disk."""

from pathlib import Path

import foreign
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file
from test_kinds import KINDS
from test_updates import saved_by

from acetrain.acestep.names import official

COMFY = "export adapter_path=lora format=comfyui output=x.safetensors"
DORA = "export adapter_path=dora output=x.safetensors format"
MERGED = "export format=merged output=x adapter_path"

TABLE: list[tuple[str, str]] = [
    ("inspect", r"adapter_path: must be given"),
    ("inspect nowhere", r"adapter_path: nowhere does not exist"),
    ("inspect empty", r"adapter_path: empty/adapter_model.safetensors does not exist"),
    ("inspect lora.bin", r"adapter_path: lora.bin is a pickle, which may run code as it is read"),
    ("inspect silent.safetensors", r"adapter_path: silent.safetensors: its alpha is not known: neither"),
    ("inspect several", r"adapter_path: must name one file of several, which holds a.safetensors, b.safetensors"),
    ("export adapter_path=lora output=x", r"format: must be given"),
    ("export adapter_path=lora format=comfy output=x", r"format: must be one of peft, comfyui, .*, got 'comfy'"),
    ("export adapter_path=lora format=comfyui", r"output: must be given"),
    ("export adapter_path=lora format=comfyui output=x", r"output: must be a .safetensors file for comfyui, got 'x'"),
    ("export adapter_path=lora format=peft output=x.safetensors", r"output: must be a folder for peft, got"),
    ("export adapter_path=lora format=peft output=lora overwrite=true", r"output: must be another place than the adap"),
    (f"{COMFY} output=kohya.safetensors", r"output: kohya.safetensors is there already; overwrite=true replaces it"),
    (f"{COMFY} dtype=int8", r"dtype: must be one of keep, fp32, bf16, fp16, got 'int8'"),
    (f"{COMFY} rank=0", r"rank: must be at least 1, or null, got 0"),
    (f"{COMFY} scale=0.5", r"scale: must be 1 but for format=merged"),
    (f"{COMFY} adapter_alpha=8", r"adapter_alpha: must be null where the adapter says its alpha, as lora/"),
    (f"{COMFY} adapter_alpha=0", r"adapter_alpha: must be above 0, or null, got 0.0"),
    (
        f"{COMFY} adapter_path=loud dtype=fp16",
        r"dtype: must hold base_model.*, whose largest value is 1e\+06, got",
    ),
    (f"{COMFY} adapter_path=nan", r"adapter_path: .*lora_B.weight holds NaN or infinity"),
    (
        f"{DORA}=comfyui",
        r"rank: must be given, of the LoRA that comes nearest: comfyui holds no DoRA .* do",
    ),
    (f"{DORA}=kohya rank=4 exact=true", r"exact: must be false to convert: kohya holds no DoRA adapter as it is"),
    (f"{COMFY} layout=official", r"layout: must be keep but for format=merged, got 'official'"),
    (f"{MERGED}=lora layout=kohya", r"layout: must be one of keep, official, diffusers, got 'kohya'"),
    (f"{MERGED}=lora layout=official", r"layout: must be diffusers or keep, as .* has sliding_window 32 in its cond"),
    (f"{MERGED}=lora output=lora.bin overwrite=true", r"output: lora.bin is a file; a folder is needed"),
    (f"{MERGED}=lora output=several overwrite=true", r"output: several holds no checkpoint, which alone is replaced"),
    (f"{MERGED}=silent.safetensors", r"adapter_path: silent.safetensors: its alpha is not known"),
    (f"{MERGED}=silent.safetensors adapter_alpha=8", r"adapter_alpha: must be null for merged; format=peft writes"),
    (f"{MERGED}=oft scale=0.5", r"scale: must be 1 for a OFT adapter, whose rotations have no strength, got 0.5"),
    (f"{MERGED}=deep", r"adapter_path: .*1 modules are not in the DiT, the first layers.77.mlp.up_proj"),
    (f"{MERGED}=lora model.path=nowhere", r"model.path: nowhere does not exist"),
]
"""Arguments, split at blanks, and what they are told."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of every request."""
    here = tmp_path_factory.mktemp("working")
    for kind in ("lora", "dora", "oft"):
        saved_by(KINDS[kind], here / kind)
    weights = load_file(here / "lora" / "adapter_model.safetensors")
    first = next(name for name in weights if "lora_B" in name)
    for name, value in (("loud", 1e6), ("nan", torch.nan)):
        foreign.write(here / name, {**weights, first: torch.full_like(weights[first], value)}, foreign.config())
        (here / name / "adapter_config.json").write_bytes((here / "lora" / "adapter_config.json").read_bytes())
    start = "base_model.model.layers.77.mlp.up_proj.lora_"
    deep = {f"{start}A.weight": torch.ones(4, 64), f"{start}B.weight": torch.ones(64, 4)}
    foreign.write(here / "deep", deep, {"peft_type": "LORA", "r": 4, "lora_alpha": 8})
    spelt = foreign.tensors(lambda name: f"base_model.model.{official(name)}", *foreign.PEFT)
    foreign.single(here / "in", spelt).rename(here / "silent.safetensors")
    foreign.PRODUCERS["kohya"](here / "in").rename(here / "kohya.safetensors")
    torch.save(weights, here / "lora.bin")
    (here / "empty").mkdir()
    (here / "several").mkdir()
    for name in "ab":
        save_file(weights, here / "several" / f"{name}.safetensors")
    return here


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(
    arguments: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(arguments, message, folder, monkeypatch, capsys)
