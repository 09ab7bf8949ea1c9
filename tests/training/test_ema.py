"""Averaged weights: they are what the recurrence says, nothing else changes by them, and they are judged and saved."""

import shutil
from pathlib import Path

import pytest
import torch
from fabricate import cache
from runs import adapter, metrics, train
from test_laws import option
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from acetrain.errors import Refused
from acetrain.training import checkpoint
from acetrain.training.ema import Ema, NoEma
from acetrain.training.run_folder import written

EVERY_STEP = ["max_steps=6", "trainer.checkpoint_every=1", "trainer.keep=9"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


@pytest.fixture(scope="module")
def averaged(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("averaged") / "run"
    done = train(songs, run, *EVERY_STEP, "ema=ema", "ema.decay=0.6", "ema.warmup=4", "ema.start=1")
    assert done.returncode == 0 and f"adapter: {run / 'adapter_ema'}" in done.stdout, done.stderr
    return run


def path(steps: int) -> list[list[torch.Tensor]]:
    """Weights that two parameters have after each step."""
    draw = torch.Generator().manual_seed(0)
    return [[torch.randn(3, 2, generator=draw), torch.randn(4, generator=draw)] for _ in range(steps + 1)]


def test_the_average_is_torchs_where_the_decay_does_not_rise() -> None:
    points = path(5)
    weights = [nn.Parameter(value.clone()) for value in points[0]]
    average = Ema(decay=0.7, warmup=1.0, start=0).over(weights)
    held = nn.ParameterList(weights)
    theirs = AveragedModel(held, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    theirs.update_parameters(held)
    for step, point in enumerate(points[1:], start=1):
        for weight, value in zip(weights, point, strict=True):
            weight.data.copy_(value)
        average.follow(weights, step)
        theirs.update_parameters(held)
    with average.within(weights):
        assert all(torch.equal(weight, value) for weight, value in zip(weights, theirs.parameters(), strict=True))
    assert all(torch.equal(weight, value) for weight, value in zip(weights, points[-1], strict=True))
    assert all(weight.requires_grad for weight in weights) and not any(p.requires_grad for p in average.parameters())


@pytest.mark.parametrize(("states", "decay"), [(1, 2 / 11), (9, 10 / 19), (89, 90 / 99), (100000, 0.999)])
def test_the_decay_rises_as_tensorflows(states: int, decay: float) -> None:
    assert Ema(decay=0.999, warmup=10.0, start=0).decay_after(states) == pytest.approx(decay)


def test_without_warm_up_a_short_run_leaves_the_average_at_its_start() -> None:
    assert Ema(decay=0.9999, warmup=1.0, start=0).untrained(300) == pytest.approx(0.97, abs=0.005)
    assert Ema(decay=0.9999, warmup=10.0, start=0).untrained(300) < 1e-9
    assert Ema(decay=0.9, warmup=1.0, start=8).untrained(10) == pytest.approx(0.81)


def test_a_runs_average_is_the_recurrence_over_its_steps(averaged: Path) -> None:
    steps = [checkpoint.read(file).adapter for file in written(averaged)]
    assert len(steps) == 6
    expected = {name: value.double() for name, value in steps[0].items()}
    for states, weights in enumerate(steps[1:], start=1):
        decay = min(0.6, (1 + states) / (4 + states))
        expected = {name: decay * expected[name] + (1 - decay) * weights[name].double() for name in weights}
    saved = {name: value for name, value in adapter(averaged, "adapter_ema").items() if "lora_B" in name}
    ours = torch.cat([value.flatten() for value in saved.values()])
    found = torch.cat([value.flatten() for name, value in expected.items() if "lora_B" in name])
    assert len(ours) == len(found) and torch.allclose(ours.sort().values, found.float().sort().values, atol=1e-9)
    assert (ours - torch.cat([adapter(averaged)[name].flatten() for name in saved])).abs().max() > 1e-5


def test_the_checkpoint_holds_the_average_in_fp32_and_nothing_of_the_base(averaged: Path) -> None:
    last = checkpoint.read(written(averaged)[-1])
    weights = sum(value.numel() for value in last.adapter.values())
    assert sum(value.numel() for value in last.average.values()) == weights + 1
    assert {value.dtype for value in last.average.values() if value.is_floating_point()} == {torch.float32}


def test_the_weights_train_as_without_an_average(averaged: Path, songs: Path, tmp_path: Path) -> None:
    assert train(songs, tmp_path / "plain", *EVERY_STEP).returncode == 0
    ours, theirs = adapter(averaged), adapter(tmp_path / "plain")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    plain = metrics(tmp_path / "plain")
    assert [{key: row[key] for key in plain[0]} for row in metrics(averaged)] == plain
    assert not (tmp_path / "plain" / "adapter_ema").exists()


def test_both_are_judged_and_the_best_of_each_is_kept(averaged: Path) -> None:
    last = metrics(averaged)[-1]
    bins = [float(value) for key, value in last.items() if key.startswith("val_t") and key.endswith("_ema")]
    assert len(bins) == 3 and sum(bins) / 3 == pytest.approx(float(last["val_loss_ema"]), rel=1e-5)
    assert last["val_loss_ema"] != last["val_loss"]
    best = checkpoint.read(written(averaged)[-1]).progress["best"]
    for kind, column in (("", "val_loss"), ("_ema", "val_loss_ema")):
        assert best[kind] == pytest.approx(min(float(row[column]) for row in metrics(averaged) if row[column]))
        assert (averaged / f"best{kind}" / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_an_average_that_a_kill_kept_from_being_written_is_written(averaged: Path, songs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(averaged, tmp_path / "run")
    (run / "adapter_ema" / "adapter_model.safetensors").unlink()
    ema = ["ema=ema", "ema.decay=0.6", "ema.warmup=4", "ema.start=1"]
    done = train(songs, run, *EVERY_STEP, *ema)
    assert done.returncode == 0 and "nothing left to do" in done.stdout
    assert all(adapter(run, "adapter_ema")[name].equal(v) for name, v in adapter(averaged, "adapter_ema").items())


@pytest.mark.parametrize("name", ["adamw_schedulefree", "prodigy_schedulefree", "any"])
def test_an_optimizer_that_averages_by_itself_is_refused_by_name(name: str) -> None:
    optimizer = option("optimizer", name)
    kept = Ema(decay=0.99, warmup=10.0, start=0)
    if name == "any":
        kept.check(optimizer, 10)
        optimizer.name = "ScheduleFreeAdamW"
    with pytest.raises(Refused, match=f"ema: must be none with {optimizer.kind}, which averages its weights itself"):
        kept.check(optimizer, 10)
    NoEma().check(optimizer, 10)
