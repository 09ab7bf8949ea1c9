"""AdaLoRA shares out ranks as PEFT does, goes on to the bit wherever it is stopped, and is read at its strength."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import laws
import pytest
import torch
from fabricate import MODEL, base, module, official_module
from peft import AdaLoraConfig, AdaLoraModel, PeftModel
from safetensors.torch import load_file
from test_kinds import effective
from torch import Tensor, nn

from acetrain.acestep.load import Base
from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.adalora import AdaLoRA
from acetrain.adapters.allocation import Allocation
from acetrain.adapters.files import peft, saved
from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, load_adapter_state, trainable
from acetrain.adapters.summary import trained_modules
from acetrain.errors import Failed, Refused
from acetrain.training.ema import Ema

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.1.cross_attn.to_v", "layers.1.mlp.down_proj", "condition_embedder"]
ADALORA = AdaLoRA(
    rank=6,
    target_rank=2,
    alpha=12.0,
    dropout=0.0,
    warmup_share=0.2,
    final_share=0.3,
    interval=1,
    beta1=0.85,
    beta2=0.85,
    orthogonality=0.5,
    start_from="",
)
STEPS = 10


def attached(adapter: AdaLoRA = ADALORA, steps: int = STEPS) -> tuple[Base, Allocation]:
    loaded = base()
    adapter.attach(loaded.dit, NAMES, seed=0)
    regime = adapter.regime(loaded.dit, steps, [])
    assert isinstance(regime, Allocation)
    return loaded, regime


def descend(loaded: Base, step: int, follow: Callable[[], None], descent: torch.optim.Optimizer) -> None:
    """An optimizer step on made-up gradients, which belong to the step."""
    draw = torch.Generator().manual_seed(step)
    for weight in trainable(loaded.dit).values():
        weight.grad = torch.randn(weight.shape, generator=draw)
    descent.step()
    follow()
    descent.zero_grad()


def run(
    loaded: Base, regime: Allocation, steps: range, descent: torch.optim.Optimizer | None = None
) -> dict[str, Tensor]:
    descent = descent or torch.optim.SGD(trainable(loaded.dit).values(), lr=0.01)
    for step in steps:
        descend(loaded, step, lambda step=step: regime.stepped(step + 1, finite=True), descent)
    return adapter_state(loaded.dit)


def ranks(loaded: Base) -> list[int]:
    return [int((layer.lora_E[NAME] != 0).sum()) for layer in adapter_layers(loaded.dit).values()]


@pytest.mark.parametrize("interval", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_ranks_are_shared_out_as_peft_does(interval: int) -> None:
    ours, regime = attached(replace(ADALORA, interval=interval))
    found = run(ours, regime, range(STEPS))
    theirs = base()
    config = AdaLoraConfig(
        target_modules=list(NAMES),
        init_r=6,
        target_r=2,
        lora_alpha=12,
        total_step=STEPS,
        tinit=2,
        tfinal=3,
        deltaT=interval,
    )
    tuner = AdaLoraModel(theirs.dit, config, NAME)
    begun, _ = attached()
    load_adapter_state(theirs.dit, adapter_state(begun.dit))
    descent = torch.optim.SGD(trainable(theirs.dit).values(), lr=0.01)
    for step in range(STEPS):
        descend(theirs, step, lambda step=step: tuner.update_and_allocate(step + 1), descent)
    assert all(torch.equal(value, found[name]) for name, value in adapter_state(theirs.dit).items())
    assert sum(ranks(ours)) == 2 * len(NAMES) and len(set(ranks(ours))) > 1


def test_the_penalty_is_pefts() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 12, bias=False), nn.Linear(12, 5, bias=False)

        def forward(self) -> Any:
            return SimpleNamespace(loss=torch.zeros(()))

    model = Model()
    config = AdaLoraConfig(target_modules=["first", "second"], init_r=4, target_r=2, total_step=5, orth_reg_weight=0.3)
    tuner = AdaLoraModel(model, config, NAME)
    ours = Allocation(model, 5, 0.0, 0.0).penalty()
    assert ours is not None and torch.allclose(ours, tuner().loss) and ours > 0


def test_a_step_descends_the_penalty_once_however_it_is_split() -> None:
    def gradients(weight: float, parts: int) -> dict[str, Tensor]:
        adapter = replace(ADALORA, orthogonality=weight)
        loaded, regime = attached(adapter)
        training = module(loaded, regime=regime)
        training.manual_backward = lambda loss: loss.backward()  # pyright: ignore
        songs = [laws.collate([song], [(0, 0, f"{i}.wav", 0)], 0.5) for i, song in enumerate(laws.SONGS)]
        training.accumulate(songs if parts == 2 else [laws.BATCH])
        return {name: weight.grad for name, weight in trainable(loaded.dit).items() if weight.grad is not None}

    split, whole, without = gradients(0.5, 2), gradients(0.5, 1), gradients(0.0, 1)
    assert all(torch.allclose(split[name], whole[name], atol=1e-5) for name in whole)
    assert any(not torch.allclose(without[name], whole[name], atol=1e-5) for name in whole)


@pytest.mark.parametrize("stop", [4, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 7, 9))])
def test_it_goes_on_to_the_bit(stop: int) -> None:
    straight = run(*attached(), range(STEPS))
    loaded, regime = attached()
    run(loaded, regime, range(stop))
    weights, state = adapter_state(loaded.dit), copy.deepcopy(regime.state())
    again, following = attached()
    load_adapter_state(again.dit, weights)
    following.load(state)
    resumed = run(again, following, range(stop, STEPS))
    assert all(torch.equal(value, straight[name]) for name, value in resumed.items())


def test_more_steps_train_the_ranks_it_has_come_to() -> None:
    loaded, regime = attached()
    run(loaded, regime, range(STEPS))
    before = ranks(loaded)
    extended, following = attached(steps=3 * STEPS)
    load_adapter_state(extended.dit, adapter_state(loaded.dit))
    following.load(regime.state())
    run(extended, following, range(STEPS, 3 * STEPS))
    assert ranks(extended) == before


def test_fewer_steps_than_the_ranks_need_are_refused() -> None:
    _, regime = attached()
    _, shortened = attached(steps=6)
    with pytest.raises(Failed, match=r"max_steps: .* by step 7, as it was started with 10; must be .*, got 6"):
        shortened.load(regime.state())


def test_a_step_that_was_not_taken_moves_no_importance() -> None:
    loaded, regime = attached()
    run(loaded, regime, range(3))
    before = copy.deepcopy(regime.state())
    regime.stepped(4, finite=False)
    assert repr(regime.state()) == repr(before)


def test_a_run_too_short_to_tell_importances_keeps_all_entries() -> None:
    loaded, regime = attached(steps=1)
    run(loaded, regime, range(1))
    assert ranks(loaded) == [6] * len(NAMES)
    extended, following = attached(steps=4)
    following.load(regime.state())
    run(extended, following, range(1, 4))
    assert ranks(extended) == [6] * len(NAMES)


def test_an_average_ends_with_the_ranks_of_the_weights() -> None:
    loaded, regime = attached()
    training = module(loaded, ema=Ema(decay=0.9, warmup=1.0, start=0), regime=regime)
    average, descent = training.average, training.configure_optimizers()
    assert average is not None
    for training.step in range(1, STEPS + 1):
        descend(loaded, training.step, lambda: regime.stepped(training.step, finite=True), descent)
        average.follow(trainable(loaded.dit).values(), training.step)
    trained, found = adapter_state(loaded.dit), ranks(loaded)
    assert sum(found) == ADALORA.target_rank * len(NAMES)
    with training.judged(descent)["_ema"]:
        assert ranks(loaded) == found
        assert not torch.equal(adapter_state(loaded.dit)[next(iter(trained))], trained[next(iter(trained))])
    assert all(torch.equal(value, trained[name]) for name, value in adapter_state(loaded.dit).items())


@pytest.mark.parametrize("steps", [pytest.param(3, marks=pytest.mark.slow), STEPS])
def test_the_pruned_file_is_read_at_the_trained_strength(steps: int, tmp_path: Path) -> None:
    ours, regime = attached()
    run(ours, regime, range(steps))
    ours.dit.eval()
    peft.save(ours.dit, tmp_path, "tiny", {})
    content = json.loads((tmp_path / peft.CONFIG).read_text())
    assert content["peft_type"] == "ADALORA" and content["total_step"] == STEPS
    rows = {name: len(value) for name, value in load_file(tmp_path / peft.WEIGHTS).items() if "lora_E" in name}
    assert list(rows.values()) == [ranks(ours)[NAMES.index(_ours(name))] for name in rows]
    theirs = PeftModel.from_pretrained(official_module(), str(tmp_path)).base_model.model
    again = base()
    saved.load(again.dit, [(tmp_path, 1.0)])
    for name, layer in adapter_layers(ours.dit).items():
        expected = effective(layer, LAYERS[name][1])
        assert torch.equal(effective(adapter_layers(again.dit)[name], LAYERS[name][1]), expected)
        found = effective(theirs.get_submodule(official(name)), LAYERS[name][1])  # pyright: ignore
        assert torch.allclose(found, expected, atol=1e-5), name
    assert {module.strength for module in trained_modules(ours.dit)} == {2.0}


def _ours(filed: str) -> str:
    from acetrain.acestep.names import diffusers

    return diffusers(filed.removeprefix(peft.PREFIX).removesuffix(".lora_E"))


def test_what_was_pruned_begins_anew_where_it_is_gone_on_from(tmp_path: Path) -> None:
    saved, regime = attached()
    run(saved, regime, range(STEPS))
    peft.save(saved.dit, tmp_path, "tiny", {})
    adapter = replace(ADALORA, start_from=str(tmp_path))
    adapter.check({name: LAYERS[name] for name in NAMES})
    again, _ = attached(adapter)
    for layer, before in zip(adapter_layers(again.dit).values(), adapter_layers(saved.dit).values(), strict=True):
        assert torch.equal(layer.lora_E[NAME], before.lora_E[NAME])
        assert (layer.lora_A[NAME].abs().amax(1) > 0).all() and (layer.lora_B[NAME].abs().amax(0) > 0).all()
        alive = before.lora_E[NAME].flatten() != 0
        assert torch.equal(layer.lora_A[NAME][alive], before.lora_A[NAME][alive])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 1}, "adapter.rank: must be at least 2, got 1"),
        ({"target_rank": 6}, r"adapter.target_rank: must be at least 1 and below adapter.rank \(6\), got 6"),
        ({"alpha": 0.0}, "adapter.alpha: must be above 0 and finite, got 0.0"),
        ({"dropout": 1.0}, r"adapter.dropout: must be in \[0, 1\), got 1.0"),
        ({"warmup_share": 0.7}, r"adapter.final_share: must be below 1 with adapter.warmup_share \(0.7\), got 0.3"),
        ({"interval": 0}, "adapter.interval: must be at least 1 step, got 0"),
        ({"beta1": 1.0}, r"adapter.beta1: must be in \(0, 1\), got 1.0"),
        ({"orthogonality": -1.0}, "adapter.orthogonality: must be at least 0 and finite, got -1.0"),
    ],
)
def test_bad_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(ADALORA, **change)
