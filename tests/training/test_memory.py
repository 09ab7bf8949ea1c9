"""The estimate of a training's memory against the bytes that a step has alive, on small and on the released shapes."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from fabricate import cache
from modes import PRECISIONS
from released import DEFAULTS, RELEASED, peak

from acetrain.acestep.load import load_base
from acetrain.acestep.names import linear_layers
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.training import memory
from acetrain.training.memory import FIXED, Batch, Estimate, Training
from acetrain.training.precision import Precision

SMALL = DEFAULTS | {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "encoder_hidden_size": 128,
}


COMPOSER = Composer("train", Sources((PACKAGED,)))


def training(config: Mapping[str, Any], precision: Precision, recomputed: int, *arguments: str) -> Training:
    job = COMPOSER.compose([read("cache=x"), *map(read, arguments)]).build()
    layers = linear_layers(config)
    targets = {name: layers[name] for name in job.targets.select(layers)}
    return Training(config, precision, job.adapter, targets, job.optimizer, recomputed, False)


def assert_near(found: Training, batch: Batch, low: float, high: float) -> None:
    """The estimate without what the libraries and the optimizer take, as a share of what was alive."""
    estimate = found.estimate(batch)
    state = estimate.adapter * found.optimizer.state_bytes / (8 + found.optimizer.state_bytes)
    assert low < (estimate.total - FIXED - state) / peak(found, batch) < high


@pytest.mark.parametrize("recomputed", [1, *(pytest.param(every, marks=pytest.mark.slow) for every in (0, 2, 3))])
def test_the_estimate_is_near_what_a_small_model_has_alive(recomputed: int) -> None:
    assert_near(training(SMALL, PRECISIONS["bf16"], recomputed), Batch(2, 1000, 300), 0.85, 1.15)


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [0, 2])
def test_a_step_that_is_computed_has_as_much_alive_as_one_that_is_not(recomputed: int) -> None:
    small, batch = training(SMALL, PRECISIONS["bf16"], recomputed), Batch(2, 300, 50)
    assert peak(small, batch, fake=False) == pytest.approx(peak(small, batch), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "arguments"),
    [("fp32", []), ("bf16", ["targets=attention_mlp"]), ("bf16", ["adapter=dora"]), ("bf16", ["adapter.rank=8"])],
)
def test_it_follows_the_format_and_the_adapter(precision: str, arguments: list[str]) -> None:
    assert_near(training(SMALL, PRECISIONS[precision], 0, *arguments), Batch(1, 1500, 200), 0.8, 1.2)


@pytest.mark.slow
@pytest.mark.parametrize("shape", RELEASED)
@pytest.mark.parametrize("recomputed", [0, 1, 2])
def test_the_estimate_is_near_what_a_released_shape_has_alive(shape: str, recomputed: int) -> None:
    assert_near(training(RELEASED[shape], PRECISIONS["bf16"], recomputed), Batch(1, 6000, 1024), 0.9, 1.1)


def test_weights_are_counted_as_they_are_stored() -> None:
    from fabricate import MODEL

    config = MODEL.config("transformer")
    dit = load_base(MODEL, torch.float32).dit
    counted = training(config, PRECISIONS["fp32"], 0).estimate(Batch(1, 1, 1)).weights
    assert counted == pytest.approx(4 * sum(weight.numel() for weight in dit.parameters()), rel=0.01)
    for name in ("int8", "nf4"):
        stored = load_base(MODEL, torch.float32).dit
        PRECISIONS[name].store(stored)
        held = sum(tensor.nbytes for tensor in (*stored.parameters(), *stored.buffers()))
        assert training(config, PRECISIONS[name], 0).estimate(Batch(1, 1, 1)).weights == pytest.approx(held, rel=0.05)


def test_every_way_to_less_memory_takes_less() -> None:
    batch = Batch(2, 6000, 500)
    plain = training(RELEASED["2b"], PRECISIONS["bf16"], 0).estimate(batch)
    for other in (
        training(RELEASED["2b"], PRECISIONS["bf16"], 2),
        training(RELEASED["2b"], PRECISIONS["nf4_bf16"], 0),
        training(RELEASED["2b"], PRECISIONS["bf16"], 0, "optimizer=adamw8bit"),
        training(RELEASED["2b"], PRECISIONS["bf16"], 0, "adapter.rank=16"),
    ):
        assert other.estimate(batch).total < plain.total
    assert plain.fits(100 * 2**30) and not plain.fits(plain.total)
    assert Estimate(2**30, 2**29, 0, 0).told() == "weights 1.0, adapter 0.5, activations 0.0, working 0.0"


def test_a_run_that_a_card_does_not_hold_is_told_what_helps(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "FIXED", 0)
    songs = cache(tmp_path / "cache", songs=3)
    given = [f"cache={songs}", "data.max_frames=100000", "trainer.gradient_checkpointing=none"]
    run = COMPOSER.compose([*map(read, given)]).build()
    needed = memory.of(run)
    assert memory.too_much(run, ("a card", int(2 * needed.total))) is None
    said = memory.too_much(run, ("a card", int(0.999 * needed.total)))
    assert said is not None and said.startswith("data.max_frames: 100000 is estimated to take 0.0 GiB (weights 0.0")
    assert "of the 0 GiB of a card; data.max_frames=auto takes less" in said
    one = memory.training_of(run).estimate(memory.longest(run)).total
    said = memory.too_much(run, ("a card", int(one)))
    assert said is not None and "data.max_frames=auto with trainer.gradient_checkpointing=full takes less" in said
    shared = COMPOSER.compose([*map(read, [*given, "trainer=fsdp"])]).build()
    said = memory.too_much(shared, ("a card", 1))
    assert said is not None and "; a lower data.max_frames with shorter songs takes less" in said
