"""Adapters of other tools come in at the strength they were trained at, or are refused by name."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import foreign
import pytest
import torch
from fabricate import base
from safetensors.torch import load_file, save_file
from test_kinds import KINDS, LAYERS, NAMES, effective
from test_lycoris import KINDS as LYCORIS
from test_lycoris import NAMES as OF_LYCORIS
from test_lycoris import attached
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.adapters.files import saved
from acetrain.adapters.files.spelling import module_of, told
from acetrain.adapters.lora import LoRA
from acetrain.adapters.updates import read_updates
from acetrain.errors import Refused


@pytest.mark.parametrize("producer", foreign.PRODUCERS)
def test_a_foreign_adapter_has_the_strength_it_was_trained_at(producer: str, tmp_path: Path) -> None:
    found = read_updates(foreign.PRODUCERS[producer](tmp_path))
    assert set(found.names) == set(NAMES)
    for name, expected in foreign.truth().items():
        assert torch.allclose(found[name].dense().float(), expected, atol=1e-5), name


@pytest.mark.parametrize("producer", ["infix", "kohya", "diffusers", "delta"])
def test_a_foreign_adapter_is_attached_at_any_scale(producer: str, tmp_path: Path) -> None:
    path, plain, loaded = foreign.PRODUCERS[producer](tmp_path), dict(base().dit.named_parameters()), base()
    saved.load(loaded.dit, [(path, 0.5)])
    for name, change in foreign.truth().items():
        found = effective(loaded.dit.get_submodule(name), LAYERS[name][1])
        assert torch.allclose(found, plain[f"{name}.weight"] + 0.5 * change, atol=1e-5), name


@pytest.mark.parametrize("start", ["base_model.model.", "transformer."])
def test_patterns_may_be_written_for_either_spelling(start: str, tmp_path: Path) -> None:
    patterns = {"rank_pattern": {"to_q": 3, r"layers\.1\..*": 2}, "alpha_pattern": {"to_q": 12, r"mlp\.\w+": 1}}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **patterns}
    ranks = {"to_q": 3, "to_k": 2}
    content = {}
    for name in NAMES:
        rank, (outputs, inputs) = ranks.get(name.rpartition(".")[2], 4), LAYERS[name]
        content |= {f"{start}{name}.lora_A.weight": torch.ones(rank, inputs)}
        content |= {f"{start}{name}.lora_B.weight": torch.ones(outputs, rank)}
    if start == "transformer.":
        said = json.dumps({start + key: value for key, value in config.items()})
        path = foreign.single(tmp_path, content, {"lora_adapter_metadata": said})
    else:
        path = foreign.write(tmp_path, content, config)
    expected = {"to_q": 4.0, "to_k": 4.0, "down_proj": 0.25}
    assert read_updates(path).strengths == {name: expected.get(name.rpartition(".")[2], 2.0) for name in NAMES}
    loaded = base().dit
    saved.load(loaded, [(path, 1.0)])
    assert loaded.get_submodule(NAMES[0]).scaling["default"] == 4.0  # pyright: ignore


def test_every_spelling_of_a_module_is_known_and_no_other() -> None:
    for name in [*LAYERS, "proj_in_conv", "proj_out_conv", "layers.12.mlp.up_proj"]:
        flat = official(name).replace(".", "_")
        spelt = [name, official(name), f"base_model.model.{official(name)}", f"transformer.{name}"]
        spelt += [f"diffusion_model.decoder.{official(name)}", f"lora_unet_decoder_{flat}", f"lycoris_{flat}"]
        spelt += [f"lora_unet_{flat}", f"lora_transformer_{name.replace('.', '_')}"]
        assert {module_of(one) for one in spelt} == {name}
    for name in ("unet.down", "layers.0", "layers.0.mlp", "layers.x.mlp.up_proj", "lora_unet_down", "lora_te_layers_0"):
        assert module_of(name) is None
    assert told("base_model.model.layers.0.mlp.up_proj.weight") is None


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ("lora_magnitude_vector.default.weight", "lora_magnitude_vector"),
        ("lora_magnitude_vector.default", "lora_magnitude_vector"),
        ("oft_R.default.weight", "oft_R.weight"),
        ("vera_lambda_b.default", "vera_lambda_b"),
        ("lora_B.my_style.weight", "lora_B.weight"),
    ],
)
def test_the_name_of_an_adapter_in_a_part_is_left_out(raw: str, part: str) -> None:
    found = told(f"base_model.model.layers.0.mlp.up_proj.{raw}")
    assert found is not None and found.part == part


def lokr(folder: Path, spell: Callable[[str], str], **more: Tensor) -> Path:
    """LyCORIS' own file under other names, with `more` in it."""
    LYCORIS["lokr"].save(attached("lokr").dit, folder, "tiny", {})
    [file] = folder.iterdir()
    save_file({spell(key): value for key, value in load_file(file).items()} | more, file)
    return file


@pytest.mark.parametrize("start", ["lycoris_", "lora_unet_decoder_", "lycoris_decoder_"])
def test_a_lokr_that_wraps_all_there_is_counts_for_what_it_changes(start: str, tmp_path: Path) -> None:
    expected = read_updates(lokr(tmp_path / "own", str))
    idle = {}
    for name in ("proj_in_1", "encoder_layers_0_mlp_up_proj", "layers_1_mlp_up_proj"):
        idle |= {f"{start}{name}.lokr_w1": torch.ones(2, 2), f"{start}{name}.lokr_w2": torch.zeros(3, 3)}
        idle[f"{start}{name}.alpha"] = torch.tensor(4.0)
    outputs, inputs = LAYERS["layers.1.mlp.up_proj"]
    idle[f"{start}layers_1_mlp_up_proj.lokr_w1"] = torch.ones(4, 4)
    idle[f"{start}layers_1_mlp_up_proj.lokr_w2"] = torch.zeros(outputs // 4, inputs // 4)
    file = lokr(tmp_path / "all", lambda key: key.replace("lycoris_", start), **idle)
    found = read_updates(file)
    assert set(found.names) == {*OF_LYCORIS, "layers.1.mlp.up_proj"}
    for name in OF_LYCORIS:
        assert torch.equal(found[name].dense(), expected[name].dense())
    saved.load(base().dit, [(file, 1.0)])
    tensors = load_file(file)
    tensors[f"{start}encoder_layers_0_mlp_up_proj.lokr_w2"] += 1
    save_file(tensors, file)
    with pytest.raises(Refused, match=f"1 modules are not in the DiT, the first {start}encoder_layers_0_mlp_up_proj"):
        saved.locate(file)


def test_an_alpha_that_nobody_says_is_asked_for(tmp_path: Path) -> None:
    file = foreign.single(tmp_path, foreign.tensors(lambda name: f"base_model.model.{official(name)}", *foreign.PEFT))
    with pytest.raises(Refused, match=r"alpha is not known: .* for 5 of 5 .*\n.*acetrain export .*adapter_alpha=ALPHA"):
        saved.locate(file)
    assert saved.locate(file, alpha=8.0).settings["lora_alpha"] == 8.0  # pyright: ignore
    told = foreign.PRODUCERS["kohya"](tmp_path / "told")
    with pytest.raises(Refused, match="adapter_alpha: must be null where the adapter says its alpha"):
        saved.locate(told, alpha=8.0)


def test_a_run_goes_on_from_a_foreign_adapter(tmp_path: Path) -> None:
    lora = KINDS["lora"]
    assert isinstance(lora, LoRA)
    ranks = {official(name): rank for name, rank in foreign.RANKS.items() if rank != 4}
    alphas = {official(name): alpha for name, alpha in foreign.ALPHAS.items() if alpha != 8}
    file = foreign.PRODUCERS["kohya"](tmp_path)
    adapter = replace(lora, alpha=8.0, ranks=ranks, alphas=alphas, start_from=str(file))
    adapter.check({name: LAYERS[name] for name in NAMES})
    loaded, plain = base(), dict(base().dit.named_parameters())
    adapter.attach(loaded.dit, NAMES, seed=0)
    for name, change in foreign.truth().items():
        found = effective(loaded.dit.get_submodule(name), LAYERS[name][1])
        assert torch.allclose(found, plain[f"{name}.weight"] + change, atol=1e-5), name
    with pytest.raises(Refused, match=r"start_from: .* has other settings: lora_alpha \(8.0 there, 16.0 here\)"):
        replace(adapter, alpha=16.0).check({name: LAYERS[name] for name in NAMES})


def test_two_alphas_that_disagree_are_refused(tmp_path: Path) -> None:
    content = foreign.tensors(lambda name: f"base_model.model.{official(name)}", *foreign.PEFT, alpha=True)
    saved.locate(foreign.write(tmp_path, content, foreign.config()))
    changed = foreign.config(lora_alpha=16)
    with pytest.raises(Refused, match=r"alpha of condition_embedder is 8 in the weights and 16 by its config"):
        saved.locate(foreign.write(tmp_path, content, changed))


def test_a_run_with_several_adapters_and_none_finished_is_asked_about(tmp_path: Path) -> None:
    for name in ("best", "checkpoints/epoch_2"):
        foreign.PRODUCERS["infix"](tmp_path / name)
    with pytest.raises(Refused, match=r"must name one adapter of .*, which holds best, checkpoints/epoch_2"):
        saved.locate(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model.bin", "lora.pt", "lora.ckpt", "renamed.safetensors"])
def test_a_pickle_is_not_opened(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / name)
    path = tmp_path if name == "adapter_model.bin" else tmp_path / name
    with pytest.raises(Refused, match=re.compile(r"is a pickle, .*\npython -c .*weights_only=True")) as refused:
        saved.locate(path)
    assert len(str(refused.value).splitlines()) == 2


def test_the_part_that_is_not_read_is_named(tmp_path: Path) -> None:
    content = foreign.tensors(lambda name: f"base_model.model.{official(name)}", *foreign.PEFT, alpha=True)
    content["base_model.model.condition_embedder.diff_b"] = torch.ones(LAYERS["condition_embedder"][0])
    with pytest.raises(Refused, match=r"tensors such as diff_b need the adapter_config\.json"):
        saved.locate(foreign.single(tmp_path, content))
