"""Going on from a saved adapter: its weights to the bit, and a refusal of one that does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fabricate import base
from test_kinds import KINDS, LAYERS, NAMES, attached

from acetrain.adapters.adapter import Adapter
from acetrain.adapters.files import peft
from acetrain.adapters.injection import adapter_state
from acetrain.adapters.projections import projections
from acetrain.errors import Refused

SHAPES = {name: LAYERS[name] for name in NAMES}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_the_saved_weights(kind: str, tmp_path: Path) -> None:
    saved = attached(kind)
    peft.save(saved.dit, tmp_path, "tiny", {})
    adapter = replace(KINDS[kind], start_from=str(tmp_path))
    adapter.check(SHAPES)
    loaded = base()
    adapter.attach(loaded.dit, NAMES, seed=5)
    ours, theirs = adapter_state(loaded.dit), adapter_state(saved.dit)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, shared in projections(saved.dit, "default").items():
        assert torch.equal(projections(loaded.dit, "default")[name], shared)


@pytest.mark.parametrize(
    ("saved", "change", "names", "message"),
    [
        ("lora", {"rank": 8}, NAMES, r"has other settings: r \(4 there, 8 here\)"),
        ("lora", {"alpha": 8.0}, NAMES, r"lora_alpha \(6.0 there, 8.0 here\)"),
        ("lora", {"ranks": {"q_proj": 2}}, NAMES, r"r of layers.0.self_attn.q_proj \(4 there, 2 here\)"),
        ("lora", {}, NAMES[:-1], "other modules: condition_embedder is there and not here, 1 differ"),
        ("rslora", {}, NAMES, r"use_rslora \(True there, .* here\)"),
        ("lokr", {}, NAMES, "is a LOKR adapter, this run trains LORA"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    saved: str, change: dict, names: list[str], message: str, tmp_path: Path
) -> None:
    peft.save(attached(saved).dit, tmp_path, "tiny", {})
    adapter: Adapter = replace(KINDS["lora"], start_from=str(tmp_path), **change)
    with pytest.raises(Refused, match=f"adapter.start_from: .*{message}"):
        adapter.check({name: SHAPES[name] for name in names})


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"adapter.start_from: .* does not exist"):
        replace(KINDS["lora"], start_from=str(tmp_path / "none")).check(SHAPES)


def test_the_content_counts_and_not_the_path(tmp_path: Path) -> None:
    saved = attached("lora")
    for folder in ("a", "b"):
        peft.save(saved.dit, tmp_path / folder, "tiny", {})
    peft.save(attached("rslora").dit, tmp_path / "c", "tiny", {"step": "1"})
    digests = [replace(KINDS["lora"], start_from=str(tmp_path / folder)).content()["start_from"] for folder in "abc"]
    assert digests[0] == digests[1] != digests[2] and KINDS["lora"].content() == {}
