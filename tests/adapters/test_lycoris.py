"""What LyCORIS trains here is what LyCORIS reads: its loader gives the same weights, at any strength, on any base."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import laws
import pytest
import torch
from fabricate import MODEL, base, official_module
from lycoris.wrapper import create_lycoris_from_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_kinds import effective
from torch import Tensor, nn

from acetrain.acestep.load import Base
from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.files import lycoris, saved
from acetrain.adapters.injection import adapter_state, trainable
from acetrain.adapters.lycoris_layers import lycoris_layers
from acetrain.adapters.summary import trained_modules
from acetrain.adapters.targets import Targets
from acetrain.adapters.through_lycoris import LoConDora, LoHaLycoris, LoKrLycoris, ThroughLycoris
from acetrain.errors import Refused

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.0.mlp.down_proj", "layers.1.cross_attn.to_out.0", "time_embed.linear_1"]
SHAPES = {name: LAYERS[name] for name in NAMES}
COMMON: dict[str, Any] = {"module_dropout": 0.0, "ranks": {"mlp": 3}, "alphas": {"time_embed": 2.5}, "start_from": ""}
LOKR = LoKrLycoris(rank=2, alpha=6.0, dora=False, factor=4, decompose_both=False, **COMMON)
KINDS: dict[str, ThroughLycoris] = {
    "lokr": LOKR,
    "lokr_both": replace(LOKR, rank=1, factor=8, decompose_both=True),
    "lokr_full": replace(LOKR, rank=64, ranks={}),
    "lokr_dora": replace(LOKR, dora=True),
    "loha": LoHaLycoris(rank=2, alpha=6.0, dora=False, **COMMON),
    "loha_dora": LoHaLycoris(rank=2, alpha=6.0, dora=True, **COMMON),
    "locon_dora": LoConDora(rank=2, alpha=6.0, **COMMON),
}


QUICK = ("lokr", "locon_dora")
SOME = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]


def attached(kind: str, dtype: torch.dtype = torch.float32) -> Base:
    """The tiny base with an adapter whose weights have moved from where they start."""
    loaded = base()
    nn.Module.to(loaded.dit, dtype)
    KINDS[kind].attach(loaded.dit, NAMES, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    loaded.dit.eval()
    return loaded


def weights(loaded: Base) -> dict[str, Tensor]:
    return {name: effective(loaded.dit.get_submodule(name), LAYERS[name][1]) for name in NAMES}


@pytest.mark.parametrize("kind", SOME)
def test_lycoris_itself_reads_the_file_on_official_names(kind: str, tmp_path: Path) -> None:
    ours = attached(kind)
    KINDS[kind].save(ours.dit, tmp_path, "tiny", {"step": "7"})
    [file] = tmp_path.iterdir()
    theirs = official_module()
    network, _ = create_lycoris_from_weights(1.0, str(file), theirs)
    network.apply_to()
    assert len(network.loras) == len(NAMES) and saved.written_step(tmp_path) == 7
    for name, expected in weights(ours).items():
        found = effective(theirs.get_submodule(official(name)), LAYERS[name][1])
        assert torch.allclose(found, expected, atol=1e-5), name
        assert (expected - dict(base().dit.named_parameters())[f"{name}.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["lokr", "locon_dora", pytest.param("loha", marks=pytest.mark.slow)])
def test_the_file_is_laid_out_as_lycoris_does(kind: str, tmp_path: Path) -> None:
    KINDS[kind].save(attached(kind).dit, tmp_path, "tiny", {"config": "x"})
    [file] = tmp_path.iterdir()
    algorithm = KINDS[kind].algorithm
    with safe_open(file, "pt") as stored:
        header, names = stored.metadata(), set(stored.keys())
    assert file.name == f"{algorithm}_weights.safetensors"
    assert (header["algo"], header["format"], header["base"], header["config"]) == (algorithm, "lycoris", "tiny", "x")
    settings = json.loads(header[f"{algorithm}_config"])
    assert settings["linear_dim"] == 2 and settings["weight_decompose"] is (kind == "locon_dora")
    assert settings["target_modules"] == sorted(map(official, NAMES)) and settings["ranks"] == {official(NAMES[1]): 3}
    start = "lycoris_layers_1_cross_attn_o_proj."
    part = {"lokr": "lokr_w1", "loha": "hada_w1_a", "locon": "lora_down.weight"}[algorithm]
    assert {start + "alpha", start + part} <= names
    alphas = {name.split(".")[0]: value for name, value in load_file(file).items() if name.endswith(".alpha")}
    assert alphas["lycoris_time_embed_linear_1"] == 2.5 and alphas["lycoris_layers_0_mlp_down_proj"] == 9.0


@pytest.mark.parametrize("scale", [0.0, 0.5, pytest.param(-1.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["lokr", pytest.param("loha_dora", marks=pytest.mark.slow), "locon_dora"])
def test_a_scale_multiplies_what_is_added_to_the_weight(kind: str, scale: float, tmp_path: Path) -> None:
    ours, plain = attached(kind), dict(base().dit.named_parameters())
    KINDS[kind].save(ours.dit, tmp_path, "tiny", {})
    loaded = base()
    saved.load(loaded.dit, [(tmp_path, scale)])
    for name, whole in weights(ours).items():
        w = plain[f"{name}.weight"].data
        found = effective(loaded.dit.get_submodule(name), LAYERS[name][1])
        assert torch.allclose(found, w + scale * (whole - w), atol=1e-5), name


def test_updates_of_several_add_up_and_decomposed_ones_do_not(tmp_path: Path) -> None:
    plain = dict(base().dit.named_parameters())
    for kind in ("lokr", "loha", "locon_dora"):
        KINDS[kind].save(attached(kind).dit, tmp_path / kind, "tiny", {})
    loaded = base()
    saved.load(loaded.dit, [(tmp_path / "lokr", 0.5), (tmp_path / "loha", 2.0)])
    first, second = weights(attached("lokr")), weights(attached("loha"))
    for name in NAMES:
        w = plain[f"{name}.weight"].data
        expected = w + 0.5 * (first[name] - w) + 2 * (second[name] - w)
        assert torch.allclose(effective(loaded.dit.get_submodule(name), LAYERS[name][1]), expected, atol=1e-5)
    with pytest.raises(Refused, match=r"adapter_paths: must be of one type.*'decomposed LyCORIS, LyCORIS'"):
        saved.check([(tmp_path / "locon_dora", 1.0), (tmp_path / "lokr", 1.0)])


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(one, marks=pytest.mark.slow) for one in ("loha", "lokr_dora"))]
)
def test_small_updates_are_not_rounded_away_on_a_16_bit_base(kind: str) -> None:
    loaded = base()
    nn.Module.to(loaded.dit, torch.bfloat16)
    KINDS[kind].attach(loaded.dit, NAMES, seed=0)
    for name, parameter in trainable(loaded.dit).items():
        if not name.endswith("dora_scale"):
            parameter.data += 1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    layer = loaded.dit.get_submodule(NAMES[0])
    module = lycoris_layers(loaded.dit)[NAMES[0]]
    x = torch.randn(7, LAYERS[NAMES[0]][1], generator=torch.Generator().manual_seed(2)).bfloat16()
    assert layer(x).dtype is torch.bfloat16
    expected = x.float() @ module.update().T
    found = module.bypass_forward_diff(x) if module.bypass_mode else module.departing(x, module.update())
    assert 0 < expected.abs().max() < 0.1 * layer(x).abs().max()
    assert (found.float() - expected).abs().max() < 0.02 * expected.abs().max()
    assert all(parameter.dtype is torch.float32 for parameter in trainable(loaded.dit).values())


@pytest.mark.parametrize("kind", SOME)
def test_a_run_goes_on_from_the_saved_weights(kind: str, tmp_path: Path) -> None:
    before = attached(kind)
    KINDS[kind].save(before.dit, tmp_path, "tiny", {})
    adapter = replace(KINDS[kind], start_from=str(tmp_path))
    adapter.check(SHAPES)
    loaded = base()
    adapter.attach(loaded.dit, NAMES, seed=5)
    ours, theirs = adapter_state(loaded.dit), adapter_state(before.dit)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert adapter.content().keys() == {"start_from"}


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({"rank": 4}, NAMES, r"linear_dim \(2 there, 4 here\)"),
        ({"alpha": 8.0}, NAMES, r"linear_alpha \(6.0 there, 8.0 here\)"),
        ({"factor": 8}, NAMES, r"factor \(4 there, 8 here\)"),
        ({"ranks": {}}, NAMES, r"other settings: ranks"),
        ({"ranks": {}}, [NAMES[0]], "other modules: lycoris_layers_0_mlp_down_proj is there and not here, 3 differ"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(change: dict, names: list[str], message: str, tmp_path: Path) -> None:
    LOKR.save(attached("lokr").dit, tmp_path, "tiny", {})
    adapter = replace(LOKR, start_from=str(tmp_path), **(change | ({"alphas": {}} if len(names) == 1 else {})))
    with pytest.raises(Refused, match=f"adapter.start_from: .*{message}"):
        adapter.check({name: LAYERS[name] for name in names})


def test_another_algorithm_is_refused(tmp_path: Path) -> None:
    LOKR.save(attached("lokr").dit, tmp_path, "tiny", {})
    with pytest.raises(Refused, match=r"adapter.start_from: .* is a lokr adapter, this run trains LyCORIS' locon"):
        replace(KINDS["locon_dora"], start_from=str(tmp_path)).check(SHAPES)


def broken(file: Path, change: str) -> None:
    tensors = load_file(file)
    first = min(name for name in tensors if name.endswith("lokr_w1"))
    if change == "stranger":
        tensors["lycoris_layers_9_mlp.lokr_w1"] = tensors.pop(first)
    elif change == "part":
        del tensors[first]
    else:
        tensors[first] = torch.ones(3, 5)
    save_file(tensors, file, {"algo": "lokr"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stranger", "1 modules are not in the DiT, the first lycoris_layers_9_mlp"),
        ("part", "layers.0.mlp.down_proj must have lokr_w1 and lokr_w2_a and lokr_w2_b, has lokr_w2_a, lokr_w2_b"),
        ("shape", "does not fit this model at layers.0.mlp.down_proj"),
    ],
)
def test_a_broken_file_is_refused(change: str, message: str, tmp_path: Path) -> None:
    LOKR.save(attached("lokr").dit, tmp_path, "tiny", {})
    broken(tmp_path / lycoris.WEIGHTS["lokr"], change)
    with pytest.raises(Refused, match=f"adapter_path: .*{message}"):
        saved.load(base().dit, [(tmp_path, 1.0)])


def test_ranks_and_strengths_are_listed() -> None:
    rows = {row.module: (row.rank, row.strength) for row in trained_modules(attached("loha").dit)}
    assert rows == {
        "layers.0.self_attn.q_proj": (2, 3.0),
        "layers.0.mlp.down_proj": (3, 3.0),
        "layers.1.cross_attn.o_proj": (2, 3.0),
        "time_embed.linear_1": (2, 1.25),
    }


def test_a_module_that_is_left_out_of_a_pass_leaves_the_base() -> None:
    adapter = replace(LOKR, module_dropout=0.99)
    loaded = base()
    before = laws.output(loaded)
    adapter.attach(loaded.dit, NAMES, seed=0)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.1
    torch.manual_seed(0)
    assert torch.equal(laws.output(Base(loaded.dit.train(), loaded.null_condition, loaded.silence)), before)
    loaded.dit.eval()
    assert not torch.equal(laws.output(loaded), before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lokr_both", "loha_dora"])
def test_every_form_obeys_the_laws(kind: str) -> None:
    adapter, targets = replace(KINDS[kind], ranks={}, alphas={}), Targets(["self_attn"], [])
    laws.attaching_changes_no_output(adapter, targets)
    laws.merged_is_the_same(adapter, targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "adapter.rank: must be at least 1, got 0"),
        ({"module_dropout": 1.0}, r"adapter.module_dropout: must be in \[0, 1\), got 1.0"),
        ({"factor": 1}, "adapter.factor: must be at least 2, or -1, got 1"),
    ],
)
def test_bad_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(LOKR, **change)
