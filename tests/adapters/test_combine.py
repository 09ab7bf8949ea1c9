"""Several adapters as one LoRA, and a fine-tuned checkpoint as one."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import foreign
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_kinds import KINDS
from test_lycoris import KINDS as LYCORIS
from test_lycoris import attached
from test_updates import PEFT, changes, saved_by
from torch import Tensor

from acetrain.adapters.files import peft
from acetrain.adapters.lora import LoRA
from acetrain.adapters.updates import read_updates
from acetrain.cli import main

LORA = KINDS["lora"]
assert isinstance(LORA, LoRA)


def combined(output: Path, *arguments: str) -> dict[str, Tensor]:
    assert main(["combine", f"output={output}", *arguments]) == 0
    return changes(output)


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    error = sum((found[name] - change).norm().item() ** 2 for name, change in expected.items())
    return math.sqrt(error / sum(change.norm().item() ** 2 for change in expected.values()))


def rename(folder: Path, base: str) -> None:
    """Let an adapter say that it is for another base."""
    config, file = folder / peft.CONFIG, folder / peft.WEIGHTS
    config.write_text(config.read_text().replace('"tiny"', f'"{base}"'))
    save_file(load_file(file), file)


def pair(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """An uneven rank-stabilised LoRA of ours and a foreign one, and 0.7 of the first less half of the second."""
    paths = [saved_by(PEFT["uneven rslora"], folder / "ours"), foreign.PRODUCERS["kohya"](folder / "theirs")]
    first, second = map(changes, paths)
    return paths, {name: 0.7 * change - 0.5 * second[name] for name, change in first.items()}


def test_a_sum_is_exact(tmp_path: Path) -> None:
    (first, second), expected = pair(tmp_path)
    given = f"adapter_paths=[{first},'{second}']" if " " in str(second) else f"adapter_paths=[{first},{second}]"
    found = combined(tmp_path / "sum", given, "weights=[0.7,-0.5]")
    assert distance(found, expected) < 1e-5
    assert set(read_updates(tmp_path / "sum").ranks.values()) >= {4 + 4, 2 + 2}


@pytest.mark.parametrize("kinds", [("loha", "lokr_full"), pytest.param(("dora", "adalora"), marks=pytest.mark.slow)])
def test_types_may_differ(kinds: tuple[str, str], tmp_path: Path) -> None:
    folders = []
    for kind in kinds:
        folders.append(tmp_path / kind)
        if kind in PEFT:
            saved_by(PEFT[kind], folders[-1])
        else:
            LYCORIS[kind].save(attached(kind).dit, folders[-1], "tiny", {})
    both = [changes(folder) for folder in folders]
    found = combined(tmp_path / "sum", f"adapter_paths=[{folders[0]},{folders[1]}]")
    assert distance(found, {name: change + both[1][name] for name, change in both[0].items()}) < 1e-5


def test_a_module_without_a_rank_left_stays_as_it_is(tmp_path: Path) -> None:
    folder = saved_by(PEFT["adalora"], tmp_path / "ours")
    file, config = folder / peft.WEIGHTS, folder / peft.CONFIG
    tensors, settings = load_file(file), json.loads(config.read_text())
    gone = "base_model.model.condition_embedder"
    for part, dim in (("lora_A", 0), ("lora_E", 0), ("lora_B", 1)):
        tensors[f"{gone}.{part}"] = tensors[f"{gone}.{part}"].narrow(dim, 0, 0).contiguous()
    settings["rank_pattern"]["condition_embedder.lora_E"] = [False] * settings["init_r"]
    save_file(tensors, file)
    config.write_text(json.dumps(settings))
    found = combined(tmp_path / "sum", f"adapter_paths=[{folder}]")
    assert not found["condition_embedder"].any() and distance(found, changes(folder)) < 1e-5


def test_a_base_may_be_named_by_its_path(tmp_path: Path) -> None:
    folders = []
    for name in ("turbo", "/home/me/checkpoints/acestep-v15-turbo", "C:\\\\models\\\\acestep-v15-turbo"):
        folders.append(saved_by(LORA, tmp_path / str(len(folders))))
        rename(folders[-1], name)
    combined(tmp_path / "sum", f"adapter_paths=[{','.join(map(str, folders))}]")


def test_at_a_rank_it_is_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [saved_by(replace(LORA, alpha=alpha), tmp_path / str(alpha)) for alpha in (2.0, 8.0)]
    second = saved_by(PEFT["loha"], tmp_path / "loha")
    first, other = changes(paths[1]), changes(second)
    whole = {name: change + other[name] for name, change in first.items()}
    found = combined(tmp_path / "cut", f"adapter_paths=[{paths[1]},{second}]", "rank=3")
    told = capsys.readouterr().out
    best = math.sqrt(
        sum(torch.linalg.svdvals(change)[3:].square().sum().item() for change in whole.values())
        / sum(change.square().sum().item() for change in whole.values())
    )
    assert distance(found, whole) == pytest.approx(best, rel=1e-3) and f"distance: {best:.3%}"[:13] in told
    kept = combined(tmp_path / "most", f"adapter_paths=[{paths[1]},{second}]", "energy=0.9")
    assert distance(kept, whole) ** 2 <= 0.1
    for name, rank in read_updates(tmp_path / "most").ranks.items():
        squares = torch.linalg.svdvals(whole[name]).square()
        assert squares[: rank - 1].sum() < 0.9 * squares.sum() <= squares[:rank].sum()


def test_a_fine_tune_is_extracted(tmp_path: Path) -> None:
    folder = saved_by(LORA, tmp_path / "ours")
    merged = f"output={tmp_path}/tuned"
    assert main(["export", f"adapter_path={folder}", "format=merged", merged, "dtype=fp32"]) == 0
    found = combined(tmp_path / "extracted", f"checkpoint={tmp_path}/tuned", "rank=4")
    assert distance(found, changes(folder)) < 1e-4
    assert set(read_updates(tmp_path / "extracted").ranks.values()) == {4}


TABLE = [
    ("", r"adapter_paths: exactly one must be given of adapter_paths and checkpoint; got none"),
    ("adapter_paths=[lora] checkpoint=lora", r"adapter_paths: exactly one must be given .*; got both"),
    ("adapter_paths=[lora,nowhere]", r"adapter_path: nowhere does not exist"),
    ("adapter_paths=[lora] weights=[1,2]", r"weights: must be empty, or 1 as adapter_paths has"),
    ("adapter_paths=[lora] rank=0", r"rank: must be at least 1, or null, got 0"),
    ("adapter_paths=[lora] energy=0", r"energy: must be in \(0, 1\], or null, got 0.0"),
    ("adapter_paths=[lora] output=lora overwrite=true", r"output: must be another place than the adapters'"),
    ("adapter_paths=[lora] output=taken", r"output: taken is there already"),
    ("adapter_paths=[lora,turbo]", r"adapter_paths: must be trained on one base, got 'tiny, turbo'"),
    ("checkpoint=nowhere rank=4", r"model.path: nowhere does not exist"),
    ("checkpoint=nowhere", r"rank: one must be given of rank and energy with checkpoint"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("working")
    saved_by(LORA, here / "lora")
    saved_by(LORA, here / "taken")
    adapter = saved_by(LORA, here / "turbo")
    config = adapter / peft.CONFIG
    config.write_text(config.read_text().replace('"tiny"', '"turbo"'))
    return here


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_what_cannot_be_combined_is_refused(
    arguments: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["combine", "output=x", *arguments.split()]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not (folder / "x").exists()
