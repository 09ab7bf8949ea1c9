"""A base with an adapter in its weights is that base with the adapter beside it, in either layout."""

import json
from pathlib import Path

import laws
import pytest
import soundfile
import torch
from checkpoints import write_official
from diffusers import AceStepTransformer1DModel
from fabricate import base
from safetensors.torch import load_file
from test_full import NAMED, moved
from test_lycoris import KINDS as LYCORIS
from test_lycoris import attached
from test_updates import PEFT, saved_by

from acetrain.acestep.load import load_base
from acetrain.acestep.model import EMBEDDED, Tiny
from acetrain.acestep.names import official
from acetrain.adapters.files import saved
from acetrain.cli import main

KINDS = ["lora", "dora", "lokr", "full"]


def saved_as(kind: str, folder: Path) -> Path:
    if kind == "full":
        NAMED.save(moved(NAMED).dit, folder, "tiny", {})
    elif kind == "lokr":
        LYCORIS["lokr"].save(attached("lokr").dit, folder, "tiny", {})
    else:
        saved_by(PEFT[kind], folder)
    return folder


def merged(adapter: Path, output: Path, *arguments: str) -> Path:
    assert main(["export", f"adapter_path={adapter}", "format=merged", f"output={output}", *arguments]) == 0
    return output


def at(folder: Path) -> Tiny:
    return Tiny(variant="tiny", path=str(folder), steps=4, shift=1.0, guidance=1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_it_computes_what_base_and_adapter_do(kind: str, scale: float, tmp_path: Path) -> None:
    adapter = saved_as(kind, tmp_path / "adapter")
    folder = merged(adapter, tmp_path / "merged", f"scale={scale}")
    loaded = base()
    saved.load(loaded.dit, [(adapter, scale)])
    expected, found = laws.output(loaded), laws.output(load_base(at(folder), torch.float32))
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    assert (expected - laws.output(base())).norm() > 3e-3 * expected.norm()
    theirs = AceStepTransformer1DModel.from_pretrained(folder / "transformer").state_dict()
    ours = load_base(at(folder), torch.float32).dit.state_dict()
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_all_else_of_the_checkpoint_stays(tmp_path: Path) -> None:
    folder = merged(saved_as("lora", tmp_path / "adapter"), tmp_path / "merged")
    kept = {file.relative_to(EMBEDDED): file.read_bytes() for file in EMBEDDED.rglob("*") if file.is_file()}
    found = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    changed = [str(name) for name in kept if kept[name] != found[name]]
    assert kept.keys() == found.keys() and changed == ["transformer/diffusion_pytorch_model.safetensors"]


def test_the_official_layout_keeps_its_shards(tmp_path: Path) -> None:
    source = write_official(tmp_path / "checkpoints", shards=3)
    adapter = saved_as("lora", tmp_path / "adapter")
    output = tmp_path / "checkpoints" / "mine"
    model = ["model=folder", f"model.path={source}"]
    merged(adapter, output, "dtype=bf16", *model)
    files = sorted(file.name for file in output.iterdir())
    assert files == sorted(file.name for file in source.iterdir())
    index = json.loads((output / "model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    tensors = {name: value for file in shards for name, value in load_file(output / file).items()}
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in tensors.values())
    assert {value.dtype for name, value in tensors.items() if name.startswith("decoder.")} == {torch.bfloat16}
    expected = merged(adapter, tmp_path / "fp32", "dtype=fp32")
    for name, value in load_base(at(expected), torch.float32).dit.state_dict().items():
        assert torch.equal(tensors[f"decoder.{official(name)}"], value.bfloat16()), name


@pytest.mark.slow
def test_it_makes_the_same_music(tmp_path: Path) -> None:
    adapter = saved_as("lora", tmp_path / "adapter")
    folder = merged(adapter, tmp_path / "merged", "dtype=fp32")
    common = ["generate", "prompt=slow jazz", "duration=1", "steps=4", "precision=fp32", "accelerator=cpu"]
    assert main([*common, f"adapter_path={adapter}", f"output={tmp_path}/beside.wav"]) == 0
    assert main([*common, f"model.path={folder}", f"output={tmp_path}/inside.wav"]) == 0
    beside, inside = (torch.tensor(soundfile.read(tmp_path / f"{name}.wav")[0]) for name in ("beside", "inside"))
    assert beside.abs().max() > 0.1 and (beside - inside).abs().max() <= 1e-4
