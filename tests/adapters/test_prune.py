"""`acetrain prune` from the command line: what it keeps, what it writes, and that PEFT's own conversion agrees."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import torch
from fabricate import MODEL, base, official_module
from peft import PeftModel, convert_to_lora
from safetensors.torch import load_file
from test_kinds import KINDS, LAYERS, NAMES
from test_updates import saved_by

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.files import peft, saved
from acetrain.adapters.lora import DoRA, LoRA, RsLoRA
from acetrain.adapters.updates import read_updates
from acetrain.cli import main

LORA, RSLORA, DORA = KINDS["lora"], KINDS["rslora"], KINDS["dora"]
assert isinstance(LORA, LoRA) and isinstance(RSLORA, RsLoRA) and isinstance(DORA, DoRA)
QUICK = ["quantiles=2", "points=0", "each_module=false", "accelerator=cpu"]


def pruned(adapter: Path, out: Path, *arguments: str) -> dict[str, Any]:
    """Prune, and the report."""
    assert main(["prune", f"adapter_path={adapter}", f"out_dir={out}", *arguments]) == 0
    return json.loads((out / "prune.json").read_text())


def dense(folder: Path) -> dict[str, np.ndarray]:
    found = read_updates(folder, MODEL)
    return {name: found[name].dense().numpy() for name in found.names}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of several ranks and alphas. Not to be changed."""
    uneven = replace(LORA, ranks={"mlp": 2, "time_embed": 5}, alphas={"cross_attn": 1.5})
    return saved_by(uneven, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate.cache(tmp_path_factory.mktemp("cache"), 6)


def test_full_rank_is_the_same_adapter_and_less_is_torchs_svd(adapter: Path, tmp_path: Path) -> None:
    whole = dense(adapter)
    report = pruned(adapter, tmp_path / "full", "rank=64")
    assert report["total"]["parameters"] == report["total"]["parameters_before"] and report["total"]["retained"] == 1
    after = dense(tmp_path / "full" / "adapter")
    assert all(np.allclose(after[name], whole[name], atol=1e-5) for name in whole)
    report = pruned(adapter, tmp_path / "two", "rank=2")
    cut = dense(tmp_path / "two" / "adapter")
    for entry in report["modules"]:
        name = diffusers(entry["module"])
        u, s, v = np.linalg.svd(whole[name])
        assert np.allclose(cut[name], u[:, :2] * s[:2] @ v[:2], atol=1e-5)
        assert np.allclose(entry["singular_values"], s[: entry["numerical_rank"]], rtol=1e-6)
        assert entry["retained"] == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
        assert entry["error"] == pytest.approx(np.linalg.norm(whole[name] - cut[name]) / np.linalg.norm(s), abs=1e-6)
    assert {entry["rank_before"] for entry in report["modules"]} == {2, 4, 5}


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("loha", "rank=3", 3),
        ("lokr", "energy=0.9", 0.9),
        pytest.param("loha", "energy=0.9", 0.9, marks=pytest.mark.slow),
        pytest.param("lokr", "rank=3", 3, marks=pytest.mark.slow),
    ],
)
def test_pefts_own_conversion_gives_the_same_update(kind: str, ours: str, theirs: float, tmp_path: Path) -> None:
    folder = saved_by(KINDS[kind], tmp_path / "before")
    pruned(folder, tmp_path / "after", ours)
    model = PeftModel.from_pretrained(official_module(), str(folder))
    _, state = convert_to_lora(model, theirs)
    found = dense(tmp_path / "after" / "adapter")
    for name in NAMES:
        key = next(key for key in state if official(name) in key and "lora_A" in key)
        expected = state[key.replace("lora_A", "lora_B")] @ state[key]
        assert np.allclose(found[name], expected.numpy(), atol=1e-4), name
        rows = load_file(tmp_path / "after" / "adapter" / peft.WEIGHTS)[f"{peft.PREFIX}{official(name)}.lora_A.weight"]
        assert len(rows) == len(state[key])


HEAVY = ("diffusers", "lightning", "peft", "transformers", "lycoris", "scipy")


def test_by_weights_nothing_heavy_but_torch_is_imported(adapter: Path, tmp_path: Path) -> None:
    arguments = ["prune", f"adapter_path={adapter}", f"out_dir={tmp_path}", "rank=2"]
    code = f"import sys; from acetrain.cli import main; assert main({arguments!r}) == 0; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY).isdisjoint(done.stdout.split())


@pytest.mark.parametrize("budget", ["bytes=12000", "energy=0.8"])
def test_a_shared_budget_is_kept_and_leaves_modules_out(budget: str, adapter: Path, tmp_path: Path) -> None:
    report = pruned(adapter, tmp_path, budget, "allocate=global")
    total, ranks = report["total"], {entry["module"]: entry["rank"] for entry in report["modules"]}
    if budget.startswith("energy"):
        assert 0.8 <= total["retained"] < 1
    else:
        assert 4 * total["parameters"] == total["bytes"] <= 12000
    config = peft.read_config(tmp_path / "adapter" / peft.CONFIG)
    assert config["target_modules"] == sorted(name for name, rank in ranks.items() if rank)
    assert total["parameters"] == read_updates(tmp_path / "adapter").size[0]
    saved.load(base().dit, [(tmp_path / "adapter", 1.0)])


def test_the_strength_of_an_rslora_is_kept_and_factors_are_balanced(tmp_path: Path) -> None:
    folder = saved_by(RSLORA, tmp_path / "before")
    pruned(folder, tmp_path / "after", "rank=2")
    config = peft.read_config(tmp_path / "after" / "adapter" / peft.CONFIG)
    assert config["use_rslora"] and config["lora_alpha"] == pytest.approx(6 / 2 * 2**0.5)
    tensors = load_file(tmp_path / "after" / "adapter" / peft.WEIGHTS)
    for name, a in tensors.items():
        if "lora_A" in name:
            assert torch.allclose(tensors[name.replace("lora_A", "lora_B")].norm(dim=0), a.norm(dim=1), rtol=1e-4)


def test_a_module_of_no_strength_is_written_without_nan(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "weak")
    config = json.loads((adapter / peft.CONFIG).read_text())
    module = next(name for name in config["target_modules"] if name.endswith("q_proj"))
    config["alpha_pattern"][module] = 0
    (tmp_path / "weak" / peft.CONFIG).write_text(json.dumps(config))
    pruned(tmp_path / "weak", tmp_path / "out", "rank=2")
    written = load_file(tmp_path / "out" / "adapter" / peft.WEIGHTS)
    assert all(tensor.isfinite().all() for tensor in written.values())
    assert not dense(tmp_path / "out" / "adapter")[diffusers(module)].any()


def test_training_goes_on_from_what_is_written(cache: Path, tmp_path: Path) -> None:
    folder = saved_by(LORA, tmp_path / "before")
    pruned(folder, tmp_path / "after", "rank=2")
    modules = ",".join(official(name) for name in NAMES)
    arguments = ["train", f"cache={cache}", f"out_dir={tmp_path / 'run'}", "max_steps=1", "logger=csv", "trainer=cpu"]
    given = ["adapter.rank=2", "adapter.alpha=3", f"adapter.start_from={tmp_path / 'after' / 'adapter'}"]
    assert main([*arguments, *given, f"targets.include=[{modules}]", "data.workers=0", "optimizer.lr=1e-9"]) == 0
    after, on = dense(tmp_path / "after" / "adapter"), dense(tmp_path / "run" / "adapter")
    assert all(np.allclose(after[name], on[name], atol=1e-5) for name in after)


def test_of_a_dora_it_says_what_conversion_loses(tmp_path: Path) -> None:
    folder = saved_by(DORA, tmp_path / "before")
    report = pruned(folder, tmp_path / "after", "rank=4")
    whole, cut = dense(folder), dense(tmp_path / "after" / "adapter")
    lost = sum(np.square(whole[name] - cut[name]).sum() for name in whole)
    length = sum(np.square(change).sum() for change in whole.values())
    assert report["adapter"]["kind"] == "DoRA"
    assert report["total"]["conversion_loss"] == pytest.approx((lost / length) ** 0.5, rel=1e-3)
    assert all(entry["conversion_loss"] == pytest.approx(entry["error"], abs=1e-6) for entry in report["modules"])
    assert "conversion_loss" not in pruned(saved_by(LORA, tmp_path / "lora"), tmp_path / "cut", "rank=1")["total"]


def test_on_songs_all_methods_are_measured_and_the_choice_is_predicted(
    adapter: Path, cache: Path, tmp_path: Path
) -> None:
    given = [f"cache={cache}", "method=loss", "rank=3", "quantiles=2", "points=2", "accelerator=cpu", "validation=0.4"]
    report = pruned(adapter, tmp_path, *given)
    assert {point["method"] for point in report["total"]["curve"]} == {"weights", "activations", "loss"}
    assert report["total"]["judged_on"] == "held_out" and (tmp_path / "pareto.png").stat().st_size > 20_000
    for found in report["total"]["loss"].values():
        assert found["measured"] == found["truncated"] - found["whole"]
        parts = found["predicted"]
        assert parts["total"] == parts["linear"] + parts["quadratic"] and parts["quadratic"] > 0
    for entry in report["modules"]:
        assert set(entry["predicted"]) == {"training", "held_out"}
        assert entry["measured"] is not None
        if entry["rank"] == entry["numerical_rank"]:
            assert abs(entry["predicted"]["training"]["quadratic"]) < 1e-9 and abs(entry["measured"]) < 1e-6
    whole = [point for point in report["total"]["curve"] if point["parameters"] == report["total"]["parameters_before"]]
    assert len(whole) == 3 and all(abs(point["change"]) < 1e-5 for point in whole)


@pytest.mark.parametrize("allocate", ["uniform", "global"])
def test_the_smallest_adapter_for_a_loss_is_measured_to_be_so(
    allocate: str, adapter: Path, cache: Path, tmp_path: Path
) -> None:
    given = [f"cache={cache}", "method=loss", f"allocate={allocate}", "validation=0.4", *QUICK]
    one = pruned(adapter, tmp_path / "rank", *[*given[:2], *given[3:]], "rank=3")["total"]["loss"]["held_out"]
    allowed = abs(one["measured"]) + 1e-4
    report = pruned(adapter, tmp_path / "loss", *given, f"max_loss_increase={allowed}")
    assert report["total"]["loss"]["held_out"]["measured"] <= allowed
    assert report["total"]["parameters"] < report["total"]["parameters_before"]


def test_the_same_command_repeats_and_finishes_what_was_killed(adapter: Path, tmp_path: Path, capsys) -> None:
    pruned(adapter, tmp_path / "one", "rank=2")
    first = load_file(tmp_path / "one" / "adapter" / peft.WEIGHTS)
    pruned(adapter, tmp_path / "one", "rank=2")
    assert "nothing left to do" in capsys.readouterr().out
    (tmp_path / "one" / "prune.json").unlink()
    shutil.rmtree(tmp_path / "one" / "adapter")
    report = pruned(adapter, tmp_path / "one", "rank=2")
    again = load_file(tmp_path / "one" / "adapter" / peft.WEIGHTS)
    assert again.keys() == first.keys() and all(torch.equal(again[name], first[name]) for name in first)
    assert report["format"] == 1 and report["settings"]["rank"] == 2


@pytest.mark.parametrize("kind", ["lokr", "loha", "dora"])
def test_the_advice_on_other_types_counts_no_ranks_of_theirs(kind: str, tmp_path: Path) -> None:
    report = pruned(saved_by(KINDS[kind], tmp_path / "before"), tmp_path / "after", "rank=1")
    assert report["next_rank"]["why"].startswith(f"train with rank {report['next_rank']['rank']} next time: it keeps")
    if kind != "dora":
        assert all(entry["rank_before"] == entry["numerical_rank"] for entry in report["modules"])


def test_the_advice_is_a_rank_and_a_reason(adapter: Path, tmp_path: Path, capsys) -> None:
    report = pruned(adapter, tmp_path, "energy=0.5")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == report["next_rank"]["why"]
    assert said.startswith(f"train with rank {report['next_rank']['rank']} next time: ")
    assert set(LAYERS) >= {diffusers(entry["module"]) for entry in report["modules"]}
