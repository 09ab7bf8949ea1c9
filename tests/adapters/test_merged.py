"""A base with an adapter in its weights is that base with the adapter beside it, in either layout."""

import json
from pathlib import Path
from typing import NoReturn

import laws
import pytest
import soundfile
import torch
from checkpoints import uniform, write_official
from diffusers import AceStepPipeline, AceStepTransformer1DModel
from fabricate import base
from safetensors.torch import load_file
from test_full import NAMED, moved
from test_lycoris import KINDS as LYCORIS
from test_lycoris import attached
from test_updates import PEFT, saved_by

from acetrain.acestep.layouts import SILENCE, open_checkpoint
from acetrain.acestep.load import load_base, read_silence
from acetrain.acestep.model import EMBEDDED, Tiny
from acetrain.acestep.names import official
from acetrain.acestep.relayout import COMPONENTS
from acetrain.adapters.files import saved
from acetrain.cli import main
from acetrain.errors import Failed

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


@pytest.mark.parametrize("shards", [1, 3])
def test_the_other_layout_holds_the_same_and_leads_back(shards: int, tmp_path: Path) -> None:
    source = write_official(tmp_path / "checkpoints", shards=shards)
    adapter = saved_as("lora", tmp_path / "adapter")
    inside = merged(adapter, tmp_path / "same", *of(source))
    theirs = merged(adapter, tmp_path / "theirs", "layout=diffusers", *of(source))
    back = merged(adapter, tmp_path / "back", "layout=official", "scale=0", *of(theirs))
    pipeline = AceStepPipeline.from_pretrained(theirs)
    shard_files = list((theirs / "transformer").glob("*.safetensors"))
    assert (len(shard_files) > 1) == (len(list(back.glob("*.safetensors"))) > 1) == (shards > 1)
    for component in COMPONENTS:
        expected = tensors_of(inside, component)
        for folder in (theirs, back):
            found = tensors_of(folder, component)
            assert all(torch.equal(found[name], value) for name, value in expected.items()), component
        loaded = getattr(pipeline, component).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in expected.items()), component
    assert torch.equal(read_silence(back / "silence_latent.pt"), pipeline.condition_encoder.silence_latent)
    assert torch.equal(load_base(at(theirs), torch.float32).silence, read_silence(source / "silence_latent.pt")[0])


def of(source: Path) -> list[str]:
    return ["model=folder", f"model.path={source}"]


def tensors_of(folder: Path, component: str) -> dict[str, torch.Tensor]:
    """The tensors of a component by diffusers name, as a checkpoint's files hold them."""
    slots = open_checkpoint(folder, []).tensors(component)
    return {name: load_file(slot.file)[slot.key] for name, slot in slots.items() if name != SILENCE}


def test_a_folder_appears_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = saved_as("lora", tmp_path / "adapter")
    folder = merged(adapter, tmp_path / "out" / "merged")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    again = ["export", f"adapter_path={adapter}", "format=merged", f"output={folder}", "overwrite=true", "scale=0.5"]
    with monkeypatch.context() as broken:
        broken.setattr("acetrain.adapters.files.merged.write", full)
        assert main(again) == 1
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["merged"]
    assert main(again) == 0 and [file.name for file in (tmp_path / "out").iterdir()] == ["merged"]
    after = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert after.keys() == before.keys() and after != before


def test_a_folder_that_holds_the_adapter_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = merged(saved_as("lora", tmp_path / "adapter"), tmp_path / "merged")
    inside = saved_as("lora", folder / "adapter")
    asked = ["export", f"adapter_path={inside}", "format=merged", f"output={folder}", "overwrite=true"]
    assert main(asked) == 2 and "output: must not be replaced by" in capsys.readouterr().err and inside.is_dir()


def full(*arguments: object) -> NoReturn:
    raise Failed("the disk is full")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["keep", "diffusers", "official"])
def test_it_makes_the_same_music(layout: str, tmp_path: Path) -> None:
    adapter = saved_as("lora", tmp_path / "adapter")
    source = uniform(tmp_path / "base") if layout == "official" else write_official(tmp_path / "checkpoints")
    folder = merged(adapter, tmp_path / "checkpoints" / "merged", "dtype=fp32", f"layout={layout}", *of(source))
    common = ["generate", "prompt=slow jazz", "duration=1", "steps=4", "precision=fp32", "accelerator=cpu"]
    assert main([*common, f"adapter_path={adapter}", *of(source), f"output={tmp_path}/beside.wav"]) == 0
    assert main([*common, *of(folder), f"output={tmp_path}/inside.wav"]) == 0
    beside, inside = (torch.tensor(soundfile.read(tmp_path / f"{name}.wav")[0]) for name in ("beside", "inside"))
    assert beside.abs().max() > 0.1 and (beside - inside).abs().max() <= 1e-4
