"""Ranks and alphas by pattern: strengths stay, files and PEFT agree, and patterns are checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import MODEL, base, official_module
from peft import PeftModel
from test_kinds import effective

from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.files import peft, saved
from acetrain.adapters.injection import NAME, adapter_layers, trainable
from acetrain.adapters.lora import Init, LoRA, RsLoRA
from acetrain.adapters.products import LoHa, LoKr
from acetrain.adapters.ranked import Ranked
from acetrain.errors import Refused

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.0.mlp.up_proj", "layers.1.self_attn.to_q", "layers.1.cross_attn.to_out.0"]
RANKS = {"q_proj": 2, "layers.1.cross_attn": 8}
DROPOUTS: dict[str, Any] = {"rank_dropout": 0.0, "module_dropout": 0.0}
KINDS = [
    (LoRA, {"dropout": 0.0, "init": Init.default, "init_songs": 8}),
    (RsLoRA, {"dropout": 0.0, "init": Init.default, "init_songs": 8}),
    (LoHa, DROPOUTS),
]
KINDS += [(LoKr, DROPOUTS | {"factor": 4, "decompose_both": False})]


def made(kind: type[Ranked], more: dict[str, Any], alphas: dict[str, float]) -> Any:
    adapter = kind(rank=4, alpha=6.0, ranks=RANKS, alphas=alphas, start_from="", **more)
    loaded = base()
    adapter.attach(loaded.dit, NAMES, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    return loaded.dit.eval()


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_strengths_stay_whatever_the_rank(kind: type[Ranked], more: dict[str, Any]) -> None:
    layers = adapter_layers(made(kind, more, {}))
    assert [layers[name].r[NAME] for name in NAMES] == [2, 4, 2, 8]
    strength = 6 / 4**kind.power
    assert [layers[name].scaling[NAME] for name in NAMES] == pytest.approx([strength] * 4)


def test_an_alpha_that_is_given_is_taken() -> None:
    layers = adapter_layers(made(LoRA, {"dropout": 0.0, "init": Init.default, "init_songs": 8}, {"layers.1": 16.0}))
    assert [layers[name].scaling[NAME] for name in NAMES] == pytest.approx([1.5, 1.5, 8.0, 2.0])


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_the_file_says_so_in_official_names(kind: type[Ranked], more: dict[str, Any], tmp_path: Path) -> None:
    ours = made(kind, more, {"up_proj": 5.0})
    peft.save(ours, tmp_path, "tiny", {})
    ranks = json.loads((tmp_path / peft.CONFIG).read_text())["rank_pattern"]
    assert ranks == {official(NAMES[0]): 2, official(NAMES[2]): 2, official(NAMES[3]): 8}
    theirs = PeftModel.from_pretrained(official_module(), str(tmp_path)).base_model.model
    again = base().dit
    saved.load(again, [(tmp_path, 1.0)])
    for name, layer in adapter_layers(ours).items():
        expected = effective(layer, LAYERS[name][1])
        assert torch.equal(effective(adapter_layers(again)[name], LAYERS[name][1]), expected)
        found = effective(theirs.get_submodule(official(name)), LAYERS[name][1])  # pyright: ignore
        assert torch.allclose(found, expected, atol=1e-5), name


@pytest.mark.parametrize(
    ("ranks", "alphas", "message"),
    [
        ({"q_prj": 2}, {}, "adapter.ranks: 'q_prj' matches no selected module; nearest: q_proj"),
        ({}, {"down_proj": 2.0}, "adapter.alphas: 'down_proj' matches no selected module; nearest: .*up_proj"),
        ({"q_proj": 2, "layers.0": 3}, {}, "adapter.ranks: 'layers.0' gives layers.0.self_attn.q_proj 3, another"),
        ({"q_proj": 0}, {}, "adapter.ranks.q_proj: must be at least 1, got 0"),
        ({}, {"q_proj": -1.0}, "adapter.alphas.q_proj: must be above 0 and finite, got -1.0"),
    ],
)
def test_patterns_that_say_nothing_are_refused(ranks: dict[str, int], alphas: dict[str, float], message: str) -> None:
    with pytest.raises(Refused, match=message):
        LoRA(4, 6.0, 0.0, init=Init.default, init_songs=8, ranks=ranks, alphas=alphas, start_from="").check(
            {name: LAYERS[name] for name in NAMES}
        )
