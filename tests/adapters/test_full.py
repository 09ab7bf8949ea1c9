"""Full training moves the named weights and no other, keeps them in fp32, and its file is laid over the base."""

from dataclasses import replace
from pathlib import Path

import laws
import pytest
import torch
from fabricate import MODEL, base, module
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from acetrain.acestep.load import Base
from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.files import saved, whole
from acetrain.adapters.full import Full
from acetrain.adapters.injection import adapter_state, trainable
from acetrain.adapters.summary import summarised, table, trained_modules
from acetrain.errors import Refused

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.1.cross_attn.to_out.0", "time_embed.linear_1"]
NAMED, EVERYTHING = Full(everything=False, start_from=""), Full(everything=True, start_from="")


def moved(adapter: Full, dtype: torch.dtype = torch.float32) -> Base:
    loaded = base()
    nn.Module.to(loaded.dit, dtype)
    adapter.attach(loaded.dit, NAMES, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=draw)
    return loaded


def own(loaded: Base) -> dict[str, Tensor]:
    return dict(loaded.dit.named_parameters())


def test_weights_and_biases_of_the_named_modules_train() -> None:
    expected = {f"{name}.weight" for name in NAMES} | {"time_embed.linear_1.bias"}
    assert set(trainable(moved(NAMED).dit)) == expected == set(adapter_state(moved(NAMED).dit))
    assert set(trainable(moved(EVERYTHING).dit)) == set(own(base()))


@pytest.mark.parametrize("adapter", [NAMED, EVERYTHING])
@pytest.mark.parametrize("autocast", [False, True])
def test_what_trains_is_fp32_on_a_16_bit_base_and_gets_gradients(adapter: Full, autocast: bool) -> None:
    loaded = moved(adapter, torch.bfloat16)
    training = module(loaded, condition_dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = training.objective(laws.BATCH)
    loss.backward()
    weights = trainable(loaded.dit)
    assert loss.isfinite() and all(weight.dtype is torch.float32 for weight in weights.values())
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in weights.values())
    frozen = [weight for name, weight in own(loaded).items() if name not in weights]
    assert all(weight.dtype is torch.bfloat16 and weight.grad is None for weight in frozen)


@pytest.mark.parametrize("scale", [0.5, 1.0, *(pytest.param(scale, marks=pytest.mark.slow) for scale in (0.0, -1.0))])
@pytest.mark.parametrize("adapter", [NAMED, EVERYTHING])
def test_a_scale_goes_from_the_base_to_the_trained_weights(adapter: Full, scale: float, tmp_path: Path) -> None:
    trained, plain = moved(adapter), own(base())
    adapter.save(trained.dit, tmp_path, "tiny", {"step": "3"})
    assert saved.written_step(tmp_path) == 3
    loaded = base()
    saved.load(loaded.dit, [(tmp_path, scale)])
    for name, weight in own(loaded).items():
        expected = plain[name] + scale * (own(trained)[name] - plain[name])
        assert torch.equal(weight, own(trained)[name]) if scale == 1 else torch.allclose(weight, expected, atol=1e-6)


def test_the_file_has_the_names_of_the_official_checkpoint(tmp_path: Path) -> None:
    NAMED.save(moved(NAMED).dit, tmp_path, "tiny", {})
    tensors = load_file(tmp_path / whole.WEIGHTS)
    assert set(tensors) == {f"decoder.{official(name)}.weight" for name in NAMES} | {"decoder.time_embed.linear_1.bias"}
    assert "decoder.layers.0.self_attn.q_proj.weight" in tensors
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())


@pytest.mark.parametrize("adapter", [NAMED, EVERYTHING])
def test_a_run_goes_on_from_the_saved_weights(adapter: Full, tmp_path: Path) -> None:
    before = moved(adapter)
    adapter.save(before.dit, tmp_path, "tiny", {})
    again = replace(adapter, start_from=str(tmp_path))
    again.check({name: LAYERS[name] for name in NAMES})
    loaded = base()
    again.attach(loaded.dit, NAMES, seed=0)
    assert all(torch.equal(value, own(before)[name]) for name, value in own(loaded).items())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    NAMED.save(moved(NAMED).dit, tmp_path, "tiny", {})
    start = replace(NAMED, start_from=str(tmp_path))
    with pytest.raises(Refused, match=r"other modules: layers.1.cross_attn.o_proj is there and not here, 2 differ"):
        start.check({NAMES[0]: LAYERS[NAMES[0]]})
    with pytest.raises(Refused, match=r"adapter.everything: must be False, as .* was trained, got True"):
        replace(start, everything=True).check({})
    file = tmp_path / whole.WEIGHTS
    tensors = load_file(file)
    tensors["decoder.layers.0.self_attn.q_proj.weight"] = torch.ones(2, 2)
    save_file(tensors, file, {"trained": "modules"})
    with pytest.raises(Refused, match=r"layers.0.self_attn.q_proj.weight is \[2, 2\] there and \[128, 128\] here"):
        saved.load(base().dit, [(tmp_path, 1.0)])


def test_what_trains_is_counted() -> None:
    named, everything = moved(NAMED), moved(EVERYTHING)
    rows = {row.module: row.parameters for row in trained_modules(named.dit)}
    assert rows["time_embed.linear_1"] == 128 * 257 and len(rows) == len(NAMES)
    assert summarised(trained_modules(everything.dit), everything.dit)["share"] == 1
    assert summarised(trained_modules(named.dit), named.dit)["share"] < 0.2
    assert "scale_shift_table" in table(trained_modules(everything.dit))
