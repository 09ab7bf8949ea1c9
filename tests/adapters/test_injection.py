"""Law 1: attaching changes nothing, training moves the adapter alone, and saved is loaded at the same strength."""

import json
from pathlib import Path

import pytest
import torch
from fabricate import MODEL, attached, base, official_module, song
from peft import PeftModel
from torch import nn

from acetrain.acestep.load import Base, text_to_music_context
from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.files import peft, saved
from acetrain.adapters.injection import adapter_layers, adapter_state, load_adapter_state, trainable
from acetrain.adapters.lora import Init, LoRA
from acetrain.adapters.targets import Targets
from acetrain.errors import Refused

LAYERS = linear_layers(MODEL.config("transformer"))


@torch.no_grad()
def output(loaded: Base) -> torch.Tensor:
    latents, condition = song(120, 20, seed=0)
    context = text_to_music_context(loaded.silence, 120)[None]
    return loaded.dit.velocity(latents[None], torch.tensor([0.6]), condition[None], context, [120], [20])


@pytest.mark.parametrize("include", [["self_attn", "cross_attn"], ["*"], ["condition_embedder"]])
def test_attaching_changes_no_output_and_hits_the_selection(include: list[str]) -> None:
    loaded = base()
    before = output(loaded)
    names = Targets(include, []).select(LAYERS)
    LoRA(4, 8.0, 0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        loaded.dit, names, seed=0
    )
    assert torch.equal(output(loaded), before)
    assert list(adapter_layers(loaded.dit)) == names
    assert {name.split(".lora_")[0] for name in trainable(loaded.dit)} == set(names)


def test_the_start_depends_on_the_seed_alone() -> None:
    def start(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        loaded = base()
        nn.Module.to(loaded.dit, dtype)
        LoRA(4, 8.0, 0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
            loaded.dit, ["layers.0.self_attn.to_q", "layers.1.mlp.up_proj"], seed
        )
        return adapter_state(loaded.dit)

    torch.manual_seed(1)
    first = start(0, torch.float32)
    torch.manual_seed(2)
    for dtype in (torch.float32, torch.bfloat16):
        again = start(0, dtype)
        assert all(again[name].dtype is torch.float32 and torch.equal(again[name], first[name]) for name in first)
    assert any(not torch.equal(tensor, first[name]) for name, tensor in start(1, torch.float32).items())


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_a_saved_adapter_loads_at_the_trained_strength_times_scale(tmp_path: Path, scale: float) -> None:
    trained = attached(rank=3)
    peft.save(trained.dit, tmp_path / "adapter", "tiny", {"step": "7"})
    loaded = base()
    plain = output(loaded)
    saved.load(loaded.dit, [(tmp_path / "adapter", scale)])
    if scale == 1.0:
        assert torch.equal(output(loaded), output(trained))
    else:
        assert not torch.allclose(output(loaded), output(trained))
    for name, layer in adapter_layers(loaded.dit).items():
        assert layer.scaling["default"] == scale * 2.0, name  # pyright: ignore
    assert not torch.allclose(output(loaded), plain)


def test_peft_itself_loads_the_folder_on_official_names(tmp_path: Path) -> None:
    trained = attached(rank=3, include=("self_attn", "mlp"))
    peft.save(trained.dit, tmp_path / "adapter", "tiny", {})
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [peft.CONFIG, peft.WEIGHTS]
    assert json.loads((tmp_path / "adapter" / peft.CONFIG).read_text())["lora_alpha"] == 6.0
    theirs = PeftModel.from_pretrained(official_module(), str(tmp_path / "adapter")).base_model.model
    for name, layer in adapter_layers(trained.dit).items():
        x = torch.randn(5, LAYERS[name][1])
        bias = layer.base_layer.bias  # pyright: ignore
        ours = layer(x) if bias is None else layer(x) - bias
        assert torch.allclose(theirs.get_submodule(official(name))(x), ours, atol=1e-5)  # pyright: ignore


def test_merging_gives_the_same_output() -> None:
    trained = attached()
    before = output(trained)
    for layer in adapter_layers(trained.dit).values():
        layer.merge()
    assert torch.allclose(output(trained), before, atol=1e-5)


def test_another_adapters_state_is_refused() -> None:
    state = adapter_state(attached(rank=3).dit)
    with pytest.raises(ValueError, match="differ"):
        load_adapter_state(attached(rank=4).dit, state)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda folder: (folder / peft.CONFIG).unlink(), "alpha is not known"),
        (lambda folder: (folder / peft.WEIGHTS).unlink(), "does not exist"),
        (lambda folder: (folder / peft.WEIGHTS).write_bytes(b"\x08" + bytes(20)), "cannot be read as safetensors"),
        (lambda folder: (folder / peft.CONFIG).write_text('{"peft_type": "XLORA"}'), "XLORA"),
        (lambda folder: (folder / peft.CONFIG).write_text("[]"), "JSON object"),
        (
            lambda folder: (folder / peft.CONFIG).write_text('{"peft_type": "LORA", "r": 5, "lora_alpha": 5}'),
            "rank 3 in A and 3 in B, its configuration says 5",
        ),
    ],
)
def test_broken_adapters_are_refused(tmp_path: Path, fault, message: str) -> None:
    folder = tmp_path / "adapter"
    peft.save(attached(rank=3).dit, folder, "tiny", {})
    fault(folder)
    with pytest.raises(Refused, match=message):
        saved.load(base().dit, [(folder, 1.0)])
