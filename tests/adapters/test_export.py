"""An exported adapter does in every program what it does here, and comes back as the same tensors."""

import json
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import foreign
import pytest
import torch
from fabricate import MODEL, base
from lycoris.modules import LohaModule, LokrModule
from readers import READERS, close, comfyui_parameters
from safetensors.torch import load_file, save_file
from test_full import EVERYTHING, NAMED, moved
from test_kinds import KINDS, LAYERS, effective
from test_kinds import NAMES as TRAINED
from test_lycoris import KINDS as LYCORIS
from test_lycoris import attached
from test_updates import PEFT, changes, saved_by

from acetrain.acestep.load import load_pipeline
from acetrain.acestep.names import official
from acetrain.adapters.files import lycoris, peft, saved
from acetrain.adapters.formats import Target
from acetrain.adapters.formulas import lycoris_strength
from acetrain.adapters.full import Full
from acetrain.adapters.lora import LoRA
from acetrain.adapters.products import LoKr
from acetrain.adapters.updates import read_updates
from acetrain.cli import main

FILES = [target.name for target in Target if target is not Target.merged]
LORA, RSLORA = KINDS["lora"], KINDS["rslora"]
assert isinstance(LORA, LoRA) and isinstance(RSLORA, LoRA)
ALPHAS = {"alpha is rank": 4.0, "alpha is twice the rank": 8.0, "alpha is 1": 1.0}
UNEVEN = {"ranks": {"mlp": 2, "time_embed": 5}, "alphas": {"cross_attn": 1.5}}


def written(folder: Path, target: str, out: Path, *arguments: str) -> Path:
    """Export, and where to."""
    output = out / (target if Target[target].is_folder else f"{target}.safetensors")
    assert main(["export", f"adapter_path={folder}", f"format={target}", f"output={output}", *arguments]) == 0
    return output


def saved_as(kind: str, folder: Path) -> Path:
    if kind in PEFT:
        return saved_by(PEFT[kind], folder)
    LYCORIS[kind].save(attached(kind).dit, folder, "tiny", {"step": "7"})
    return folder


def loras() -> list:
    """Every LoRA: with ranks of one size and of several, alphas, and rank-stabilised."""
    made = []
    for (told, alpha), stable, uneven in product(ALPHAS.items(), (False, True), (False, True)):
        adapter = replace(RSLORA if stable else LORA, alpha=alpha, **(UNEVEN if uneven else {}))
        quick = told == "alpha is twice the rank" and stable == uneven
        name = f"{told}{', rslora' if stable else ''}{', uneven' if uneven else ''}"
        made.append(pytest.param(adapter, id=name, marks=() if quick else pytest.mark.slow))
    return made


@pytest.mark.parametrize("target", FILES)
@pytest.mark.parametrize("adapter", loras())
def test_a_lora_is_the_same_everywhere_and_comes_back(adapter: LoRA, target: str, tmp_path: Path) -> None:
    folder = saved_by(adapter, tmp_path / "ours")
    output = written(folder, target, tmp_path)
    close(READERS[target](output), changes(folder))
    close(changes(output), changes(folder))
    if target == "delta":
        return
    back = load_file(written(output, "peft", tmp_path / "back") / peft.WEIGHTS)
    ours = load_file(folder / peft.WEIGHTS)
    assert back.keys() == ours.keys() and all(torch.equal(back[name], ours[name]) for name in ours)
    first, second = (read_updates(path).strengths for path in (folder, tmp_path / "back" / "peft"))
    assert second == pytest.approx(first, rel=1e-6)


EXACT = {
    "loha": ("peft", "comfyui", "lycoris", "kohya", "delta"),
    "lokr": ("peft", "comfyui", "lycoris", "kohya", "delta"),
    "lokr_both": ("peft", "comfyui", "lycoris", "kohya", "delta"),
    "lokr_full": ("comfyui", "lycoris", "kohya", "delta"),
    "adalora": ("peft", "comfyui", "diffusers", "lycoris", "kohya", "delta"),
    "dora": ("peft", "delta"),
    "oft": ("peft", "delta"),
    "boft": ("peft", "delta"),
    "vera": ("peft", "delta"),
    "ia3": ("peft", "delta"),
    "lokr_dora": ("lycoris", "delta"),
    "locon_dora": ("lycoris", "delta"),
}
QUICK = {("loha", "lycoris"), ("lokr", "comfyui"), ("lokr_full", "kohya"), ("adalora", "diffusers"), ("dora", "peft")}
CASES = [
    pytest.param(kind, target, marks=() if (kind, target) in QUICK else pytest.mark.slow)
    for kind, targets in EXACT.items()
    for target in targets
]


@pytest.mark.parametrize(("kind", "target"), CASES)
def test_every_other_type_is_the_same_where_a_format_holds_it(kind: str, target: str, tmp_path: Path) -> None:
    folder = saved_as(kind, tmp_path / "ours")
    output = written(folder, target, tmp_path, "exact=true")
    close(READERS[target](output), changes(folder), 2e-5)
    if target != "delta":
        close(changes(output), changes(folder), 2e-5)


@pytest.mark.parametrize("kind", ["lokr_full", "dora", pytest.param("oft", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ["diffusers", pytest.param("comfyui", marks=pytest.mark.slow)])
def test_what_a_format_does_not_hold_is_converted_and_the_loss_is_told(
    kind: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (kind, target) == ("lokr_full", "comfyui"):
        pytest.skip("ComfyUI holds it")
    folder = saved_as(kind, tmp_path / "ours")
    arguments = ["export", f"adapter_path={folder}", f"format={target}", f"output={tmp_path}/x.safetensors"]
    assert main(arguments) == 2 and re.search(
        r"rank: must be given, .* holds no .* peft|lycoris", capsys.readouterr().err
    )
    assert main([*arguments, "rank=3", "exact=true"]) == 2 and "exact: must be false" in capsys.readouterr().err
    output = written(folder, target, tmp_path, "rank=3")
    told = re.search(r"rank 3 is ([\d.]+)% of the change away", capsys.readouterr().out)
    expected, found = changes(folder), READERS[target](output)
    error = math.sqrt(sum((found[name] - change).norm().item() ** 2 for name, change in expected.items()))
    norm = math.sqrt(sum(change.norm().item() ** 2 for change in expected.values()))
    assert told and float(told[1]) / 100 == pytest.approx(error / norm, abs=2e-4)
    exact = written(folder, target, tmp_path / "whole", "rank=512")
    close(READERS[target](exact), expected, 1e-4)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_16_bit_file_keeps_its_alphas(dtype: str, tmp_path: Path) -> None:
    folder = saved_by(replace(LORA, alpha=1.1), tmp_path / "ours")
    output = written(folder, "comfyui", tmp_path, f"dtype={dtype}")
    tensors = load_file(output)
    alphas = {value.item() for name, value in tensors.items() if name.endswith(".alpha")}
    assert alphas == {torch.tensor(1.1).item()}
    kinds = {value.dtype for name, value in tensors.items() if not name.endswith(".alpha")}
    assert kinds == {torch.bfloat16 if dtype == "bf16" else torch.float16}
    close(READERS["comfyui"](output), changes(folder), 1e-2)


def test_the_pipeline_of_diffusers_takes_the_file(tmp_path: Path) -> None:
    folder = saved_by(replace(LORA, **UNEVEN), tmp_path / "ours")
    pipeline = load_pipeline(MODEL, torch.float32, "cpu")
    pipeline.load_lora_weights(str(written(folder, "diffusers", tmp_path)))
    expected = changes(folder)
    plain = dict(load_pipeline(MODEL, torch.float32, "cpu").transformer.named_parameters())
    for name, change in expected.items():
        found = effective(pipeline.transformer.get_submodule(name), LAYERS[name][1]) - plain[f"{name}.weight"]
        assert torch.allclose(found, change, atol=1e-5), name


def test_an_adapter_without_an_alpha_gets_the_one_that_is_given(tmp_path: Path) -> None:
    spell = foreign.tensors(lambda name: f"base_model.model.{name}", *foreign.PEFT)
    file = foreign.single(tmp_path / "in", spell)
    output = written(file, "peft", tmp_path, "adapter_alpha=8")
    assert set(read_updates(output).strengths.values()) == {2.0, 4.0, 8 / 3}


def test_the_header_keeps_what_was_said_of_the_making(tmp_path: Path) -> None:
    folder = saved_by(LORA, tmp_path / "ours")
    said = saved.header_of(saved.locate(written(folder, "lycoris", tmp_path))).metadata
    assert said["step"] == "7" and said["base"] == "tiny" and said["algo"] == "locon"
    assert json.loads(said["locon_config"])["linear_alpha"] == 6.0


@pytest.mark.parametrize("kind", ["lokr", "lokr_both"])
def test_lycoris_makes_the_same_modules_from_the_header_alone(kind: str, tmp_path: Path) -> None:
    adapter = KINDS[kind]
    assert isinstance(adapter, LoKr)
    folder = saved_by(replace(adapter, ranks={}, alphas={}), tmp_path / "ours")
    file = written(folder, "lycoris", tmp_path)
    said = json.loads(saved.header_of(saved.locate(file)).metadata["lokr_config"])
    tensors = load_file(file)
    for name in {key.split(".")[0] for key in tensors}:
        parts = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        outputs, inputs = LAYERS[lycoris.module_of(name)]
        settings = {key: said[key] for key in ("factor", "decompose_both", "full_matrix", "weight_decompose")}
        linear = torch.nn.Linear(inputs, outputs)
        made = LokrModule(name, linear, 1.0, said["linear_dim"], said["linear_alpha"], **settings)
        found = made.custom_state_dict()
        assert {part: value.shape for part, value in found.items()} == {part: parts[part].shape for part in parts}
        assert made.scale == pytest.approx(lycoris_strength(parts))


def test_a_header_says_the_sizes_of_modules_as_a_run_that_trains_them_does(tmp_path: Path) -> None:
    adapter = KINDS["lokr"]
    assert isinstance(adapter, LoKr)
    folder = saved_by(replace(adapter, ranks={"mlp": 3}, alphas={"time_embed": 2.5}), tmp_path / "ours")
    file = written(folder, "lycoris", tmp_path)
    said = json.loads(saved.header_of(saved.locate(file)).metadata["lokr_config"])
    run = replace(LYCORIS["lokr"], alpha=6.0)
    expected = run.settings(TRAINED)
    assert {key: said[key] for key in ("linear_dim", "linear_alpha", "ranks", "alphas")} == {
        key: expected[key] for key in ("linear_dim", "linear_alpha", "ranks", "alphas")
    }
    replace(run, start_from=str(file)).check({name: LAYERS[name] for name in TRAINED})


@pytest.mark.parametrize("target", ["comfyui", "lycoris"])
def test_the_strength_of_two_whole_factors_is_not_rounded_to_16_bits(target: str, tmp_path: Path) -> None:
    adapter = KINDS["lokr"]
    assert isinstance(adapter, LoKr)
    folder = saved_by(replace(adapter, rank=100, alpha=70.0), tmp_path / "ours")
    weights = load_file(folder / peft.WEIGHTS)
    assert any("lokr_w2" in name for name in weights) and not any("lokr_w2_a" in name for name in weights)
    save_file({name: value.bfloat16() for name, value in weights.items()}, folder / peft.WEIGHTS)
    close(READERS[target](written(folder, target, tmp_path, "exact=true")), changes(folder))


CONVOLUTIONS = {
    "lokr whole": (LokrModule, {"lora_dim": 64, "factor": 4}),
    "lokr": (LokrModule, {"lora_dim": 2, "factor": 4}),
    "lokr dora": (LokrModule, {"lora_dim": 2, "factor": 4, "weight_decompose": True}),
    "loha": (LohaModule, {"lora_dim": 2}),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_that_lycoris_trained_is_kept_everywhere(kind: str, tmp_path: Path) -> None:
    algorithm, settings = CONVOLUTIONS[kind]
    weight = base().dit.proj_in_conv.weight.detach()
    module = algorithm("lycoris_proj_in_1", base().dit.proj_in_conv, 1.0, alpha=1.0, **settings)
    draw = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    theirs = {f"lycoris_proj_in_1.{part}": value.contiguous() for part, value in module.custom_state_dict().items()}
    file = foreign.single(tmp_path / "theirs", theirs)
    with torch.no_grad():
        change = module.get_weight(weight.shape)  # its get_diff_weight multiplies by alpha/rank once more
        if module.wd:
            change = module.apply_weight_decompose(weight + change) - weight
    delta = load_file(written(file, "delta", tmp_path))["base_model.model.proj_in.1.diff"]
    torch.testing.assert_close(delta, change, atol=1e-6, rtol=0)
    for folder in (file, written(file, "lycoris", tmp_path)):
        loaded = base()
        saved.load(loaded.dit, [(folder, 0.5)])
        torch.testing.assert_close(loaded.dit.proj_in_conv.weight, weight + 0.5 * change, atol=1e-6, rtol=0)
    assert main(["export", f"adapter_path={file}", "format=merged", f"output={tmp_path / 'merged'}"]) == 0


def test_a_lycoris_file_keeps_its_settings(tmp_path: Path) -> None:
    folder = saved_as("lokr_full", tmp_path / "ours")
    file = written(folder, "lycoris", tmp_path)
    before, after = (saved.header_of(saved.locate(path)).metadata["lokr_config"] for path in (folder, file))
    assert json.loads(after) == json.loads(before)


@pytest.mark.parametrize("adapter", [NAMED, EVERYTHING])
def test_a_difference_holds_all_that_a_fine_tune_trained(adapter: Full, tmp_path: Path) -> None:
    trained, plain = dict(moved(adapter).dit.named_parameters()), dict(base().dit.named_parameters())
    adapter.save(moved(adapter).dit, tmp_path / "ours", "tiny", {})
    output = written(tmp_path / "ours", "delta", tmp_path, "exact=true")
    again = written(output, "comfyui", tmp_path, "exact=true")
    for file in (output, again):
        found = comfyui_parameters(file, plain)
        assert found.keys() == {name for name, value in trained.items() if not torch.equal(value, plain[name])}
        for name, change in found.items():
            torch.testing.assert_close(change, trained[name] - plain[name], atol=1e-6, rtol=0)
        loaded = base()
        saved.load(loaded.dit, [(file, 1.0)])
        for name, value in loaded.dit.named_parameters():
            torch.testing.assert_close(value, trained[name], atol=1e-6, rtol=0)
    assert main(["inspect", f"adapter_path={output}"]) == 0


def test_trained_weights_say_what_a_lora_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    NAMED.save(moved(NAMED).dit, tmp_path / "ours", "tiny", {})
    for path in (tmp_path / "ours", written(tmp_path / "ours", "delta", tmp_path)):
        written(path, "kohya", tmp_path / path.stem, "rank=4")
        told = capsys.readouterr().err
        assert re.search(r"1 trained tensors, whose change has norm [\d.]+, are not in it, as time_embed.lin", told), (
            told
        )


@pytest.mark.parametrize("target", ["delta", "comfyui"])
def test_a_difference_keeps_its_biases(target: str, tmp_path: Path) -> None:
    content = {f"base_model.model.{official(name)}.diff": change for name, change in foreign.truth().items()}
    content["base_model.model.condition_embedder.diff_b"] = torch.ones(LAYERS["condition_embedder"][0])
    output = written(foreign.single(tmp_path / "theirs", content), target, tmp_path, "exact=true")
    found = load_file(output)
    assert found.keys() == content.keys() and all(torch.equal(found[name], content[name]) for name in content)
