"""The hash of the encoding weights: what changes it, and what does not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from acetrain.acestep.layouts import Diffusers
from acetrain.acestep.weights import hash_weights, stamps
from acetrain.errors import Refused
from acetrain.tensorfile import read_header

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def checkpoint(tmp_path: Path, tiny) -> Path:
    return Path(shutil.copytree(tiny.checkpoint.folder, tmp_path / "checkpoint"))


def test_place_and_parts_do_not_change_it(checkpoint: Path, tiny) -> None:
    assert hash_weights(Diffusers(checkpoint)) == hash_weights(tiny.checkpoint)
    whole = checkpoint / "vae" / WEIGHTS
    tensors = load_file(whole)
    parts = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for part, names in parts.items():
        save_file({name: tensors[name] for name in names}, whole.with_name(part), metadata={"format": "pt"})
    index = {"weight_map": {name: part for part, names in parts.items() for name in names}}
    whole.with_name(f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    whole.unlink()
    assert hash_weights(Diffusers(checkpoint)) == hash_weights(tiny.checkpoint)
    assert len(stamps(Diffusers(checkpoint))) == 4
    whole.with_name("a.safetensors").unlink()
    with pytest.raises(Refused, match=r"a.safetensors, named by .*, is missing"):
        hash_weights(Diffusers(checkpoint))


@pytest.mark.parametrize("component", ["vae", "condition_encoder", "text_encoder"])
@pytest.mark.parametrize("change", ["value", "name", "dtype"])
def test_any_encoding_tensor_changes_it(checkpoint: Path, component: str, change: str) -> None:
    before, remembered = hash_weights(Diffusers(checkpoint)), stamps(Diffusers(checkpoint))
    file = next((checkpoint / component).glob("*.safetensors"))
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensor = tensors.pop(name)
    if change == "value":
        tensor.view(-1)[0] += 1
    elif change == "dtype":
        tensor = tensor.to(torch.bfloat16)
    save_file(tensors | {name + "x" * (change == "name"): tensor}, file)
    assert hash_weights(Diffusers(checkpoint)) != before and stamps(Diffusers(checkpoint)) != remembered


def test_other_components_do_not_matter(checkpoint: Path, tiny) -> None:
    shutil.rmtree(checkpoint / "transformer")
    assert hash_weights(Diffusers(checkpoint)) == hash_weights(tiny.checkpoint)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_file_cut_short_is_refused(checkpoint: Path, keep: int) -> None:
    file = checkpoint / "vae" / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(Refused, match=f"model: {file} cannot be read"):
        hash_weights(Diffusers(checkpoint))


def test_a_missing_component_is_refused(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "vae")
    with pytest.raises(Refused, match=f"model: {checkpoint / 'vae' / WEIGHTS} is missing"):
        stamps(Diffusers(checkpoint))


def test_headers_say_what_safetensors_says(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(4, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"key": "välue"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.metadata == {"key": "välue"}
    data = (tmp_path / "x.safetensors").read_bytes()
    stored = header.tensors["b"]
    assert (stored.dtype, stored.shape, header.tensors["a"].dtype) == ("F32", (2, 3), "BF16")
    assert data[stored.start : stored.start + stored.length] == tensors["b"].numpy().tobytes()


def test_what_is_no_header_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    for content in (b"[]", b'{"a": 1}', b"\xff"):
        (tmp_path / "x").write_bytes(len(content).to_bytes(8, "little") + content)
        with pytest.raises(ValueError, match=r"header|codec"):
            read_header(tmp_path / "x")
    whole = checkpoint / "vae" / WEIGHTS
    whole.unlink()
    whole.with_name(f"{WEIGHTS}.index.json").write_text("{}")
    with pytest.raises(Refused, match=r"index.json has no weight_map"):
        hash_weights(Diffusers(checkpoint))
