"""Optimizers: their groups, what they owe to the libraries that define them, how runs go on with them, bad inputs."""

import copy
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import attached, cache
from laws import descended, fresh_weights, misfit
from peft.optimizers import create_loraplus_optimizer
from runs import QUICK, adapter, metrics, train
from test_bad_inputs import state
from test_laws import option

from acetrain.adapters.injection import trainable
from acetrain.cli import main
from acetrain.errors import Failed, Refused
from acetrain.training import checkpoint, optimizer
from acetrain.training.optimizers import catalogue


def groups_of(optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter]) -> dict[str, dict[str, Any]]:
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {names[id(weight)]: group for group in optimizer.param_groups for weight in group["params"]}


def test_factors_of_patterns_multiply_and_decide_the_groups() -> None:
    adamw = replace(
        option("optimizer", "adamw"),
        lr_factors={"lora_B": 4.0, "to_q.lora_B": 0.5},
        decay_factors={"lora_magnitude_vector": 0.0},
    )
    weights = fresh_weights()
    found = [(group["lr"], group["weight_decay"]) for group in groups_of(adamw.build(weights), weights).values()]
    assert found == [(1e-4, 0.01), (2e-4, 0.01), (1e-4, 0.0)]


def test_a_pattern_that_matches_no_weight_is_named() -> None:
    with pytest.raises(Failed, match=r"optimizer.lr_factors: 'lora_C' matches no weight; nearest: lora_B, lora_A"):
        replace(option("optimizer", "adamw"), lr_factors={"lora_C": 1.0}).build(fresh_weights())


def test_lora_plus_gives_the_rates_that_peft_gives() -> None:
    loaded = attached()
    weights = trainable(loaded.dit)
    plus = option("optimizer", "lora_plus")
    peft = create_loraplus_optimizer(loaded.dit, torch.optim.AdamW, lr=plus.lr, loraplus_lr_ratio=plus.ratio)  # pyright: ignore[reportArgumentType]
    ours, theirs = groups_of(plus.build(weights), weights), groups_of(peft, weights)
    assert ours.keys() == theirs.keys()
    assert {name: group["lr"] for name, group in ours.items()} == {name: group["lr"] for name, group in theirs.items()}
    assert len({group["lr"] for group in ours.values()}) == 2


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest() -> None:
    muon = option("optimizer", "muon")
    ours, _ = descended(muon, 4)
    weights = fresh_weights()
    *matrices, vector = weights.values()
    settings: dict[str, Any] = {"lr": muon.lr, "weight_decay": muon.weight_decay}
    parts = [
        torch.optim.Muon(matrices, **settings, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([vector], **settings),
    ]
    for step in range(4):
        misfit(weights, step).backward()
        for part in parts:
            part.step()
            part.zero_grad()
    assert all(torch.equal(ours[name], weights[name]) for name in weights)


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit", "lion8bit"])
def test_states_of_matrices_have_8_bits(name: str) -> None:
    weights, descent = descended(option("optimizer", name), 2)
    kinds = [descent.state[weight]["state1"].dtype for weight in weights.values()]
    assert kinds == [torch.uint8, torch.uint8, torch.float32]


@pytest.mark.parametrize("name", ["adamw_schedulefree", "prodigy_schedulefree"])
def test_averaged_weights_are_others_than_those_trained(name: str) -> None:
    chosen = option("optimizer", name)
    weights, descent = descended(chosen, 20)
    trained = copy.deepcopy(weights)
    with chosen.evaluating(descent):
        assert all(not torch.equal(weights[name], trained[name]) for name in weights)


def test_an_average_is_the_mean_of_the_fast_weights() -> None:
    """x = (1 - 1/k) x + 1/k z at a constant rate (Defazio et al. 2024, Eq. 3)."""
    chosen = option("optimizer", "adamw_schedulefree")
    weights = fresh_weights()
    descent, fast = chosen.build(weights), []
    for step in range(6):
        misfit(weights, step).backward()
        descent.step()
        descent.zero_grad()
        fast.append([descent.state[weight]["z"].clone() for weight in weights.values()])
    with chosen.evaluating(descent):
        for weight, values in zip(weights.values(), zip(*fast, strict=True), strict=True):
            assert torch.allclose(weight, torch.stack(values).mean(dim=0), atol=1e-6)


SIMPLE = {"StableAdamW", "Adan", "AdaBelief", "Lamb", "SOAP", "ADOPT", "Prodigy", "ScheduleFreeRAdam", "Tiger", "RAdam"}


def test_the_catalogue_is_that_of_the_package() -> None:
    import pytorch_optimizer

    assert len(catalogue.fit()) > 80 and set(catalogue.fit()) >= SIMPLE
    assert all(hasattr(pytorch_optimizer, name) for name in catalogue.fit())
    assert "AdamW" in catalogue.fit() or hasattr(torch.optim, "AdamW")
    assert not {"SAM", "Lookahead", "AliG", "LOMO", "SophiaH", "AdaHessian"} & set(catalogue.fit())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "SOAP" else pytest.mark.slow) for name in sorted(SIMPLE)]
)
def test_an_optimizer_by_name_goes_on_to_the_bit(name: str) -> None:
    named = replace(option("optimizer", "any"), name=name)
    named.check([], option("adapter", "lora"))
    (ours, _), (theirs, _) = descended(named, 6, stop=3), descended(named, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


RUNS = {
    "prodigy": ["optimizer=prodigy", "optimizer.lr=1"],
    "prodigy_schedulefree": ["optimizer=prodigy_schedulefree", "optimizer.lr=1"],
    "adamw_schedulefree": ["optimizer=adamw_schedulefree"],
    "muon": ["optimizer=muon", "schedule=linear", "schedule.warmup=2"],
    "lora_plus": ["optimizer=lora_plus", "schedule=rex", "schedule.warmup=2"],
    "lion8bit": ["optimizer=lion8bit", "adapter.rank=32", "optimizer.lr_factors={cross_attn: 2}"],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "lora_plus" else pytest.mark.slow) for name in RUNS]
)
def test_a_run_in_two_parts_ends_in_the_same_bits(songs: Path, tmp_path: Path, name: str) -> None:
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    chosen = [*RUN_STEPS, *RUNS[name]]
    assert train(songs, straight, *chosen).returncode == 0
    shutil.copytree(straight, parts)
    for late in ("adapter", "best"):
        shutil.rmtree(parts / late, ignore_errors=True)
    (parts / "step-00000008.ckpt").unlink()
    done = train(songs, parts, *chosen)
    assert done.returncode == 0 and "going on from step 6" in done.stdout, done.stderr
    ours, theirs = adapter(parts), adapter(straight)
    assert all(torch.equal(ours[weight], theirs[weight]) for weight in theirs)
    assert metrics(parts) == metrics(straight)
    last = checkpoint.read(straight / "step-00000008.ckpt").optimizer["param_groups"]
    assert len({group["lr"] / group["initial_lr"] for group in last}) == 1
    assert all(("d" in row) is name.startswith("prodigy") for row in metrics(straight))


RUN_STEPS = ["max_steps=8", "trainer.keep=9", "trainer.checkpoint_every=3"]


def test_what_is_saved_is_the_average_also_when_the_adapter_was_lost(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    chosen = ["optimizer=adamw_schedulefree", "max_steps=6"]
    assert train(songs, run, *chosen).returncode == 0
    saved, trained = adapter(run), checkpoint.read(run / "step-00000006.ckpt").adapter
    pairs = [(ours, theirs) for ours in saved.values() for theirs in trained.values() if ours.shape == theirs.shape]
    assert pairs and not any(torch.equal(ours, theirs) for ours, theirs in pairs)
    shutil.rmtree(run / "adapter")
    assert train(songs, run, *chosen).returncode == 0
    again = adapter(run)
    assert all(torch.equal(again[name], saved[name]) for name in saved)


def test_another_optimizer_does_not_take_up_a_run(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(songs, run, "max_steps=2").returncode == 0
    for other in (["optimizer=lion"], ["optimizer.lr_factors={lora_B: 2}"], ["optimizer.decay_factors={lora_B: 0}"]):
        done = train(songs, run, "max_steps=4", *other)
        assert done.returncode == 2 and "holds a run with other settings: optimizer" in done.stderr


TABLE = [
    ("optimizer.lr=0", r"optimizer.lr: must be above 0 and finite, got 0.0"),
    ("optimizer.lr=inf", r"optimizer.lr: must be above 0 and finite, got inf"),
    ("optimizer.lr=nan", r"optimizer.lr: must be"),
    ("optimizer.beta1=1", r"optimizer.beta1: must be in \[0, 1\), got 1.0"),
    ("optimizer.beta2=-0.1", r"optimizer.beta2: must be in \[0, 1\), got -0.1"),
    ("optimizer.eps=0", r"optimizer.eps: must be above 0 and finite, got 0.0"),
    ("optimizer.weight_decay=-1", r"optimizer.weight_decay: must be at least 0 and finite, got -1.0"),
    ("optimizer=adam", r"optimizer: there is no option 'adam'; nearest: adamw"),
    ("optimizer=lion optimizer.eps=1", r"optimizer.eps: there is no such key in optimizer \(Lion\)"),
    ("optimizer=lora_plus optimizer.ratio=0.5", r"optimizer.ratio: must be at least 1 and finite, got 0.5"),
    ("optimizer=lora_plus adapter=ia3", r"optimizer: must be another than LoraPlus for an adapter without A"),
    ("optimizer=adafactor optimizer.decay_rate=0.8", r"optimizer.decay_rate: must be below 0 and finite, got 0.8"),
    (
        "optimizer=adafactor optimizer.clip_threshold=0",
        r"optimizer.clip_threshold: must be above 0 and finite, got 0.0",
    ),
    ("optimizer=came optimizer.beta3=1", r"optimizer.beta3: must be in \[0, 1\), got 1.0"),
    ("optimizer=prodigy optimizer.d0=0", r"optimizer.d0: must be above 0 and finite, got 0.0"),
    ("optimizer=prodigy optimizer.d_coef=-1", r"optimizer.d_coef: must be above 0 and finite, got -1.0"),
    (
        "optimizer=prodigy optimizer.lr_factors={lora_B:2}",
        r"optimizer.lr_factors: must be empty, as one d is estimated",
    ),
    ("optimizer=prodigy_schedulefree optimizer.beta1=0", r"optimizer.beta1: must be in \(0, 1\), got 0.0"),
    ("optimizer=adamw_schedulefree optimizer.beta1=0", r"optimizer.beta1: must be in \(0, 1\), got 0.0"),
    ("optimizer=muon optimizer.momentum=1", r"optimizer.momentum: must be in \[0, 1\), got 1.0"),
    ("optimizer=muon optimizer.ns_steps=0", r"optimizer.ns_steps: must be from 1 to 99, got 0"),
    ("optimizer.lr_factors={lora_B:-1}", r"optimizer.lr_factors.lora_B: must be at least 0 and finite, got -1.0"),
    ("optimizer.lr_factors={lora_B:x}", r"optimizer.lr_factors.lora_B: must be a number, got 'x'"),
    ("optimizer.lr_factors={lroa_B:2}", r"optimizer.lr_factors: 'lroa_B' matches no weight; nearest: lora_B"),
    ("optimizer.decay_factors={mlp:0}", r"optimizer.decay_factors: 'mlp' matches no weight; "),
    ("optimizer=any optimizer.name=StableAdam", r"optimizer.name: 'StableAdam' is no optimizer .*nearest: StableAdamW"),
    ("optimizer=any optimizer.name=Lookahead", r"optimizer.name: Lookahead is built of more than weights"),
    ("optimizer=any optimizer.name=AliG", r"optimizer.name: AliG has no learning rate"),
    ("optimizer=any optimizer.name=AdaHessian", r"optimizer.name: AdaHessian needs second derivatives"),
    ("optimizer=any optimizer.arguments={beats:1}", r"optimizer.arguments.beats: StableAdamW has no .*nearest: betas"),
    ("optimizer=any optimizer.arguments={eps:x}", r"optimizer.arguments.eps: must be float, got 'x'"),
    ("optimizer=any optimizer.arguments={lr:1}", r"optimizer.arguments.lr: must be given as optimizer.lr, got 1"),
    ("optimizer=any optimizer.name=Ranger21", r"optimizer.arguments: must be given with num_iterations for Ranger21"),
    ("optimizer=any optimizer.name=Nero", r"optimizer.weight_decay: must be 0, as Nero has none, got 0.01"),
    ("schedule.warmup=-1", r"schedule.warmup: must be at least 0 steps, got -1"),
    ("schedule.warmup_share=1", r"schedule.warmup_share: must be in \[0, 1\), got 1.0"),
    (
        "schedule.warmup_share=0.1 schedule.warmup=3",
        r"schedule.warmup_share: must be 0 where schedule.warmup is 3, got",
    ),
    ("schedule=rex schedule.floor=2", r"schedule.floor: must be in \[0, 1\], got 2.0"),
    ("schedule=polynomial schedule.power=0", r"schedule.power: must be above 0 and finite, got 0.0"),
    ("schedule=cosine_restarts schedule.cycles=0", r"schedule.cycles: must be at least 1, got 0"),
    ("schedule=cosine_restarts schedule.growth=0.5", r"schedule.growth: must be at least 1 and finite, got 0.5"),
    ("schedule=warmup_stable_decay schedule.decay_share=0", r"schedule.decay_share: must be in \(0, 1\], got 0.0"),
    ("schedule=warmup_stable_decay schedule.descent=exp", r"schedule.descent: must be one of linear, cosine, sqrt"),
    ("schedule=linear max_steps=100", r"schedule.warmup: must be below the 100 steps of the run, got 100"),
]
"""Arguments after `train`, split at blanks, and what stderr must start with."""


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_bad_input_is_refused_and_nothing_changes(
    arguments: str, message: str, songs: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state(tmp_path)
    code = main(["train", f"cache={songs}", *QUICK[:1], *arguments.split(" ")])
    stderr = capsys.readouterr().err
    assert re.match(message, stderr), stderr
    assert code == 2 and len(stderr.splitlines()) <= 4
    assert state(tmp_path) == before


@pytest.mark.parametrize("name", ["came", "adamw_schedulefree", "prodigy_schedulefree", "any"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(name: str, monkeypatch) -> None:
    monkeypatch.setattr(optimizer, "find_spec", lambda package: None)
    with pytest.raises(
        Refused, match=r"^optimizer: \w+ needs \w+, which is not installed: pip install acetrain\[optim\]$"
    ):
        option("optimizer", name).check([], option("adapter", "lora"))
