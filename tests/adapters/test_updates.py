"""Every type of saved adapter is read as what it does to the weights, and written as a LoRA that does the same."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import test_lycoris
import torch
from fabricate import MODEL, base
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from test_adalora import ADALORA
from test_full import EVERYTHING, NAMED, moved
from test_kinds import KINDS, LAYERS, NAMES, effective
from test_lycoris import KINDS as LYCORIS
from torch import Tensor, nn

from acetrain.acestep.names import official
from acetrain.adapters.adapter import Adapter
from acetrain.adapters.files import low_rank, lycoris, peft, saved
from acetrain.adapters.full import Full
from acetrain.adapters.injection import trainable
from acetrain.adapters.lora import LoRA, RsLoRA
from acetrain.adapters.low_rank import LowRank
from acetrain.adapters.updates import Updates, read_updates
from acetrain.analysis.truncate import decompose
from acetrain.errors import Refused

LORA = KINDS["lora"]
UNEVEN = {"ranks": {"mlp": 2, "time_embed": 5}, "alphas": {"cross_attn": 1.5}}
assert isinstance(LORA, LoRA) and isinstance(KINDS["rslora"], RsLoRA)
PEFT: dict[str, Adapter] = {
    **KINDS,
    "adalora": ADALORA,
    "uneven lora": replace(LORA, **UNEVEN),
    "uneven rslora": replace(KINDS["rslora"], **UNEVEN),
}
QUICK = ("lora", "uneven rslora", "dora", "loha", "lokr_both", "adalora", "oft", "ia3", "vera")
SOME = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in PEFT]


def saved_by(adapter: Adapter, folder: Path) -> Path:
    """The folder of an adapter whose weights have moved from where they start."""
    loaded = base()
    adapter.attach(loaded.dit, NAMES, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    adapter.save(loaded.dit, folder, "tiny", {"step": "7"})
    return folder


def changes(folder: Path) -> dict[str, Tensor]:
    """What the adapter in a folder makes of the base's weights, by loading it."""
    loaded, plain = base(), dict(base().dit.named_parameters())
    saved.load(loaded.dit, [(folder, 1.0)])
    return {
        name: effective(loaded.dit.get_submodule(name), inputs) - plain[f"{name}.weight"]
        for name, (_, inputs) in LAYERS.items()
    }


def same(found: Updates, expected: Mapping[str, Tensor]) -> None:
    for name, change in expected.items():
        update = found[name].dense().float() if name in found.names else torch.zeros(1)
        assert torch.allclose(update, change, atol=2e-5, rtol=1e-4), name


@pytest.mark.parametrize("kind", SOME)
def test_an_update_is_what_loading_the_adapter_does(kind: str, tmp_path: Path) -> None:
    folder = saved_by(PEFT[kind], tmp_path)
    found = read_updates(folder, MODEL)
    assert set(found.names) == set(NAMES) and found.base == "tiny" and found.metadata["step"] == "7"
    same(found, changes(folder))


@pytest.mark.parametrize("kind", LYCORIS)
def test_an_update_of_a_lycoris_file_is_what_loading_it_does(kind: str, tmp_path: Path) -> None:
    LYCORIS[kind].save(test_lycoris.attached(kind).dit, tmp_path, "tiny", {})
    same(read_updates(tmp_path, MODEL), changes(tmp_path))


@pytest.mark.parametrize("adapter", [NAMED, EVERYTHING])
def test_full_weights_are_a_change_of_layers_and_what_no_lora_holds_is_said(adapter: Full, tmp_path: Path) -> None:
    adapter.save(moved(adapter).dit, tmp_path, "tiny", {})
    found, plain = read_updates(tmp_path, MODEL), dict(base().dit.named_parameters())
    trained = dict(moved(adapter).dit.named_parameters())
    for name in found.names:
        change = (trained[f"{name}.weight"] - plain[f"{name}.weight"]).flatten(1)
        assert torch.allclose(found[name].dense().float(), change, atol=1e-6), name
    left = {name for name in trained if name.removesuffix(".weight") not in found.names}
    assert "time_embed.linear_1.bias" in found.left_out
    assert set(found.left_out) == {name for name in left if not torch.equal(trained[name], plain[name])}


@pytest.mark.parametrize("kind", ["lora", "uneven rslora", "loha", "dora"])
def test_what_is_written_loads_as_the_same_change(kind: str, tmp_path: Path) -> None:
    folder = saved_by(PEFT[kind], tmp_path / "before")
    found = read_updates(folder, MODEL)
    factors = {name: decompose(found[name]).factors(strength=found.strengths.get(name, 1.0)) for name in found.names}
    low_rank.save(factors, found.strengths, found.rslora, found.dtype, tmp_path / "after", found.base, {"step": "9"})
    expected, after = changes(folder), changes(tmp_path / "after")
    assert all(torch.allclose(after[name], change, atol=1e-4) for name, change in expected.items())
    assert saved.written_step(tmp_path / "after") == 9
    again = read_updates(tmp_path / "after")
    assert again.rslora == found.rslora
    assert {name: again.strengths[name] for name in found.strengths} == pytest.approx(found.strengths)


def test_what_is_written_is_laid_out_like_a_trained_adapter(tmp_path: Path) -> None:
    folder = saved_by(replace(LORA, **UNEVEN), tmp_path / "before")
    found = read_updates(folder)
    low_rank.save(
        {name: found[name].times(1.0) for name in found.names},
        found.strengths,
        found.rslora,
        found.dtype,
        tmp_path / "after",
        found.base,
        {},
    )
    before, after = load_file(folder / peft.WEIGHTS), load_file(tmp_path / "after" / peft.WEIGHTS)
    assert {name: (value.shape, value.dtype) for name, value in before.items()} == {
        name: (value.shape, value.dtype) for name, value in after.items()
    }
    configs = [LoraConfig(**peft.read_config(path / peft.CONFIG)) for path in (folder, tmp_path / "after")]
    assert configs[0].target_modules == configs[1].target_modules
    assert configs[0].init_lora_weights == configs[1].init_lora_weights


def test_a_convolution_is_read_flat_and_written_as_one(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    name = "proj_in_conv"
    weight = base().dit.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    outputs, *inputs = weight.shape
    update = LowRank(torch.randn(outputs, 3, generator=draw), torch.randn(3, weight[0].numel(), generator=draw))
    flat = LowRank(update.b, update.a, tuple(inputs[1:]))
    low_rank.save({name: flat}, {name: 0.5}, False, torch.float32, tmp_path, "tiny", {})
    assert load_file(tmp_path / peft.WEIGHTS)["base_model.model.proj_in.1.lora_A.weight"].shape == (3, *inputs)
    found = read_updates(tmp_path)
    assert found[name].kernel == flat.kernel and found[name].shape == (outputs, weight[0].numel())
    assert torch.allclose(found[name].dense().float(), update.dense(), atol=1e-4)
    loaded = base().dit
    saved.load(loaded, [(tmp_path, 1.0)])
    x = torch.randn(1, inputs[0], 40, generator=draw)
    change = loaded.get_submodule(name)(x) - base().dit.get_submodule(name)(x)
    expected = nn.functional.conv1d(x, update.dense().view(weight.shape), stride=2)
    assert torch.allclose(change, expected, atol=1e-3)


def test_names_in_a_lycoris_file_are_told_without_a_model() -> None:
    for name in [*LAYERS, "proj_in_conv", "proj_out_conv", "layers.12.mlp.up_proj"]:
        assert lycoris.module_of(lycoris.key_of(name)) == name
    with pytest.raises(Refused, match="'lycoris_unet_down' is the name of no module"):
        lycoris.module_of("lycoris_unet_down")


def test_a_16_bit_file_keeps_its_format_and_its_strength(tmp_path: Path) -> None:
    folder = saved_by(LORA, tmp_path)
    halved = {name: value.bfloat16() for name, value in load_file(folder / peft.WEIGHTS).items()}
    save_file(halved, folder / peft.WEIGHTS)
    found = read_updates(folder)
    assert found.dtype is torch.bfloat16 and set(found.strengths.values()) == {6 / 4}


def broken(name: str, folder: Path) -> Path:
    """An adapter with one fault."""
    saved_by(LORA, folder)
    weights = load_file(folder / peft.WEIGHTS)
    first = f"base_model.model.{official(NAMES[0])}"
    if name == "nan":
        weights[f"{first}.lora_A.weight"][1, 2] = torch.nan
    elif name == "half":
        del weights[f"{first}.lora_A.weight"]
    elif name == "rank":
        weights[f"{first}.lora_A.weight"] = weights[f"{first}.lora_A.weight"][:2].contiguous()
    elif name == "foreign":
        weights["unet.down.lora_A.weight"] = torch.ones(2, 2)
    save_file(weights, folder / peft.WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", r"layers.0.self_attn.q_proj.lora_A.weight holds NaN or infinity"),
        ("half", r"layers.0.self_attn.q_proj must have lora_A.weight and lora_B.weight, has lora_B.weight"),
        ("rank", r"layers.0.self_attn.q_proj has rank 2 in A and 4 in B, its configuration says 4"),
        ("foreign", r"1 modules are not in the DiT, the first unet.down"),
    ],
)
def test_a_faulty_adapter_is_refused_by_the_name_of_its_tensor(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=message):
        read_updates(broken(name, tmp_path))


def test_a_type_that_needs_its_base_is_refused_without_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is a OFT adapter, which needs its base's weights"):
        read_updates(saved_by(KINDS["oft"], tmp_path))
