"""Prunings and comparisons that must be refused: each request with its message, and nothing changed on disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import fabricate
import pytest
import torch
from refusals import refused
from safetensors.torch import load_file, save_file
from test_kinds import KINDS
from test_updates import saved_by

from acetrain.adapters.files import peft
from acetrain.adapters.lora import LoRA

WEIGHTS = "prune adapter_path=adapter out_dir=x"
SONGS = f"{WEIGHTS} rank=1 cache=cache accelerator=cpu"
BUDGETS = "rank, sv_ratio, sv_cumulative, sv_fro, energy, parameters, bytes, max_loss_increase"
PAIR = "compare out_dir=x adapter_paths="

TABLE: list[tuple[str, str]] = [
    ("prune out_dir=x rank=1", r"adapter_path: must be given"),
    ("prune adapter_path=adapter rank=1", r"out_dir: must be given"),
    ("prune adapter_path=nowhere out_dir=x rank=1", r"adapter_path: nowhere does not exist"),
    ("prune adapter_path=adapter out_dir=adapter rank=1", r"out_dir: must be another folder than the adapter's"),
    (WEIGHTS, rf"rank: exactly one budget must be given of {BUDGETS}; got none"),
    (f"{WEIGHTS} rank=2 energy=0.9", rf"rank: exactly one budget must be given of {BUDGETS}; got rank and energy"),
    (f"{WEIGHTS} rank=0", r"rank: must be at least 1, got 0"),
    (f"{WEIGHTS} rank=two", r"rank: must be a whole number"),
    (f"{WEIGHTS} rnk=2", r"rnk: there is no such key .*nearest: rank"),
    (f"{WEIGHTS} sv_ratio=1", r"sv_ratio: must be above 1 and finite, got 1.0"),
    (f"{WEIGHTS} sv_cumulative=0", r"sv_cumulative: must be in \(0, 1\], got 0.0"),
    (f"{WEIGHTS} sv_fro=1.5", r"sv_fro: must be in \(0, 1\], got 1.5"),
    (f"{WEIGHTS} energy=nan", r"energy: must be in \(0, 1\], got nan"),
    (f"{WEIGHTS} parameters=0", r"parameters: must be at least 1, got 0"),
    (
        f"{WEIGHTS} parameters=9",
        r"parameters: must be at least \d+, one rank for each of 5 modules, got 9; allocate=gl",
    ),
    (f"{WEIGHTS} bytes=9 allocate=global", r"bytes: must be at least \d+, the cheapest module's first rank, got 9"),
    (
        f"{WEIGHTS} rank=2 allocate=global",
        r"allocate: must be uniform with rank, which is said of each module; energy,",
    ),
    (f"{WEIGHTS} rank=2 allocate=both", r"allocate: must be one of uniform, global, got 'both'"),
    (f"{WEIGHTS} rank=2 method=best", r"method: must be one of weights, activations, loss, got 'best'"),
    (f"{WEIGHTS} rank=2 method=loss", r"cache: must be the folder of encoded songs for method=loss, got ''"),
    (f"{WEIGHTS} max_loss_increase=0.1", r"cache: must be the folder of encoded songs for max_loss_increase, got ''"),
    (f"{WEIGHTS} max_loss_increase=0 cache=cache", r"max_loss_increase: must be above 0 and finite, got 0.0"),
    (f"{WEIGHTS} rank=2 cache=nowhere", r"cache: .*nowhere"),
    (f"{WEIGHTS} rank=2 cache=empty", r"cache: empty holds no song"),
    (
        f"{WEIGHTS} max_loss_increase=0.1 cache=small",
        r"max_loss_increase: must have held-out songs, small gives none of 3",
    ),
    (f"{SONGS} quantiles=0", r"quantiles: must be at least 1, got 0"),
    (f"{SONGS} draws=0", r"draws: must be at least 1, got 0"),
    (f"{SONGS} points=1", r"points: must be at least 2, or 0 for none, got 1"),
    (f"{SONGS} validation=1", r"validation: must be in \[0, 1\), got 1.0"),
    (f"{SONGS} adapter_path=wide", r"adapter_path: it is for another base: condition_embedder is \[.*\] there and \["),
    (
        f"{SONGS} adapter_path=deep",
        r"adapter_path: it is for another base: layers.77.mlp.up_proj is no layer of this one",
    ),
    (f"{SONGS} adapter_path=turbo", r"adapter_path: turbo was trained on turbo, the model is tiny"),
    (f"{SONGS} out_dir=taken", r"out_dir: must be new, empty or an earlier run of the same settings, got taken"),
    (f"{WEIGHTS} rank=1 adapter_path=nan", r"adapter_path: .*q_proj.lora_B.weight holds NaN or infinity"),
    (f"{WEIGHTS} rank=1 adapter_path=zero", r"adapter_path: .* changes nothing: the update of every module is zero"),
    (f"{WEIGHTS} rank=1 adapter_path=cut", r"adapter_path: .*adapter_model.safetensors cannot be read as safetensors"),
    (f"{PAIR}[adapter]", r"adapter_paths: must be two adapters, got \['adapter'\]"),
    (f"{PAIR}[adapter,adapter,adapter]", r"adapter_paths: must be two adapters"),
    (f"{PAIR}[adapter,nowhere]", r"adapter_path: nowhere does not exist"),
    (f"{PAIR}[adapter,adapter] rank=0", r"rank: must be at least 1, or null, got 0"),
    (f"{PAIR}[adapter,deep]", r"adapter_paths: must have a module in common, these have none"),
    (f"{PAIR}[adapter,wide]", r"adapter_paths: must be of one base, condition_embedder is \["),
    (f"{PAIR}[adapter,nan]", r"adapter_path: .*holds NaN or infinity"),
]
"""Arguments, split at blanks, and what they are told."""


def changed(folder: Path, name: str) -> None:
    """Give the adapter in `folder` the fault of its name."""
    config, tensors = (folder / peft.CONFIG).read_text(), load_file(folder / peft.WEIGHTS)
    prefix = peft.PREFIX
    if name == "nan":
        tensors[f"{prefix}layers.0.self_attn.q_proj.lora_B.weight"][1, 1] = torch.nan
    elif name == "zero":
        tensors = {key: value * ("lora_A" in key) for key, value in tensors.items()}
    elif name == "wide":
        kept = {key: value for key, value in tensors.items() if "condition_embedder" in key}
        tensors = {key: torch.cat([value, value], dim=1 if "lora_A" in key else 0) for key, value in kept.items()}
    elif name == "deep":
        parts = ("lora_A.weight", "lora_B.weight")
        down = {part: tensors[f"{prefix}layers.0.self_attn.q_proj.{part}"] for part in parts}
        tensors = {f"{prefix}layers.77.mlp.up_proj.{part}": value for part, value in down.items()}
    save_file(tensors, folder / peft.WEIGHTS, metadata={"base": "turbo"} if name == "turbo" else None)
    (folder / peft.CONFIG).write_text(config.replace("tiny", "turbo") if name == "turbo" else config)
    if name == "cut":
        (folder / peft.WEIGHTS).write_bytes((folder / peft.WEIGHTS).read_bytes()[:-9])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of every request."""
    here = tmp_path_factory.mktemp("working")
    lora = KINDS["lora"]
    assert isinstance(lora, LoRA)
    saved_by(replace(lora, ranks={"mlp": 2}), here / "adapter")
    for name in ("nan", "zero", "wide", "deep", "turbo", "cut"):
        shutil.copytree(here / "adapter", here / name)
        changed(here / name, name)
    for name, songs in (("cache", 6), ("small", 3), ("empty", 0)):
        (here / name).mkdir()
        fabricate.cache(here / name, songs)
    (here / "taken").mkdir()
    (here / "taken" / "song.txt").write_text("someone's")
    return here


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(
    arguments: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(arguments, message, folder, monkeypatch, capsys)
