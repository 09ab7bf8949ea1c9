"""Formats, recomputation and compilation: the step they take, against the plain one in fp32."""

from dataclasses import replace

import modes
import pytest
import torch
from fabricate import cache
from lightning.pytorch.utilities import rank_zero_only
from modes import COMPILED, COSINE, LOSS, PRECISIONS, Stepped, assert_equal_to, assert_near, ready, stepped
from runs import metrics, train
from test_laws import option

from acetrain.acestep.quantised import QuantisedLinear
from acetrain.errors import Refused
from acetrain.training import precision as precisions
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.trainer import Checkpointing

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plain() -> Stepped:
    return stepped(ready(CPU))


@pytest.mark.parametrize("name", [name for name in PRECISIONS if name != "fp32"])
def test_a_step_in_every_format_is_near_that_in_fp32(plain: Stepped, name: str) -> None:
    training = ready(CPU, PRECISIONS[name])
    assert training.scaler.is_enabled() == (name == "fp16")
    assert_near(stepped(training, PRECISIONS[name]), plain, LOSS[name], COSINE[name])


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_recomputing_blocks_changes_no_bit_and_keeps_less(plain: Stepped, every: int) -> None:
    training = ready(CPU)
    training.dit.recompute(every)
    found = stepped(training)
    assert training.dit.recomputed == tuple(range(0, len(training.dit.layers), every))
    assert_equal_to(found, plain, 0.0)
    share = len(training.dit.recomputed) / len(training.dit.layers)
    assert found.kept < (1 - 0.7 * share) * plain.kept


def test_recomputation_can_be_given_up_again(plain: Stepped) -> None:
    training = ready(CPU)
    training.dit.recompute(1)
    training.dit.recompute(0)
    assert stepped(training).kept == plain.kept


@pytest.mark.parametrize("name", ["int8", "nf4"])
def test_a_quantised_base_keeps_no_dense_weight_for_the_backward_pass(plain: Stepped, name: str) -> None:
    training = ready(CPU, PRECISIONS[name])
    layers = [layer for layer in training.dit.layers.modules() if isinstance(layer, QuantisedLinear)]
    dense = sum(4 * layer.in_features * layer.out_features for layer in layers)
    stored = sum(layer.codes.nbytes + layer.scales.nbytes for layer in layers)
    assert len(layers) == 11 * len(training.dit.layers)
    assert stored < {"int8": 0.27, "nf4": 0.15}[name] * dense
    assert stepped(training, PRECISIONS[name]).kept < plain.kept - 0.8 * dense


@pytest.mark.parametrize("name", ["int8", pytest.param("nf4", marks=pytest.mark.slow)])
def test_songs_stay_apart_on_a_quantised_base(name: str) -> None:
    training = ready(CPU, PRECISIONS[name])
    whole = stepped(training, PRECISIONS[name]).losses
    alone = []
    for group in modes.GROUPS:
        for index in group:
            batch = modes.collate([modes.SONGS[index]], [(0, 0, f"{index}.wav", 0)], 0.25)
            alone.append(training.song_losses(batch, modes.draw(batch, training.recipe.timesteps, 0.0)))
    assert torch.allclose(whole, torch.cat(alone), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), [("fp32", 0), ("fp32", 2), ("nf4", 0)])
def test_compiled_blocks_compute_the_same(name: str, every: int) -> None:
    plain, training = stepped(ready(CPU, PRECISIONS[name]), PRECISIONS[name]), ready(CPU, PRECISIONS[name])
    training.dit.recompute(every)
    training.dit.compile_blocks()
    assert_equal_to(stepped(training, PRECISIONS[name]), plain, COMPILED)


@pytest.mark.slow
def test_a_run_with_compiled_blocks_is_that_without(tmp_path) -> None:
    songs = cache(tmp_path / "cache", songs=5)
    for name in ("off", "block"):
        done = train(songs, tmp_path / name, f"trainer.compile={name}", "max_steps=3", timeout=900)
        assert done.returncode == 0, done.stderr
    for ours, theirs in zip(metrics(tmp_path / "block"), metrics(tmp_path / "off"), strict=True):
        for key in ("loss", "grad_norm", "val_loss"):
            assert ours[key] == theirs[key] == "" or float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-3)


@pytest.mark.parametrize(
    ("device", "capable", "expected"),
    [("cpu", False, "fp32"), ("mps", False, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp16")],
)
def test_auto_is_what_suits_the_device(monkeypatch, device: str, capable: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capable)
    auto, target = PRECISIONS["auto"], torch.device(device)
    assert auto.on(target) == PRECISIONS[expected]
    assert auto.encoding(target).name == ("fp32" if expected == "fp16" else expected)


@pytest.mark.parametrize(
    ("given", "device", "expected"),
    [
        ((Format.bf16, Format.auto), "cpu", (Format.bf16, Format.bf16)),
        ((Format.auto, Format.bf16), "cpu", (Format.fp32, Format.bf16)),
        ((Format.fp16, Format.auto), "cuda", (Format.fp16, Format.fp16)),
        ((Format.auto, Format.fp16), "cuda", (Format.fp16, Format.fp16)),
        ((Format.auto, Format.fp32), "cuda", (Format.fp32, Format.fp32)),
        ((Format.fp32, Format.auto), "cuda", (Format.fp32, Format.bf16)),
    ],
)
def test_formats_that_are_given_stay_and_auto_goes_with_them(
    monkeypatch, given: tuple[Format, Format], device: str, expected: tuple[Format, Format]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    settled = Precision(*given, Quantised.none).on(torch.device(device))
    assert (settled.base, settled.compute) == expected
    assert PRECISIONS["nf4_bf16"].name == "nf4 and bf16, computed in bf16"


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [
        (PRECISIONS["fp16"], "mps", "precision: must be fp32 or bf16 on an Apple GPU"),
        (replace(PRECISIONS["fp32"], compute=Format.fp16), "mps", "precision: must be fp32 or bf16 on an Apple GPU"),
        (
            replace(PRECISIONS["bf16"], compute=Format.fp16),
            "cpu",
            "precision.compute: must be bf16, the format of the ba",
        ),
        (replace(PRECISIONS["nf4_bf16"], compute=Format.fp32), "cpu", r"unless precision.base=fp32, got fp32"),
        (PRECISIONS["int8"], "mps", "precision.quantised: int8 needs a CUDA GPU or a CPU, the device is mps"),
        (PRECISIONS["nf4"], "xpu", "precision.quantised: nf4 needs a CUDA GPU or a CPU, the device is xpu"),
    ],
)
def test_what_a_device_cannot_do_is_refused(precision: Precision, device: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        precision.on(torch.device(device))


def test_a_bitsandbytes_that_does_not_work_is_refused(monkeypatch) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise RuntimeError("no kernel for this processor. And much more")

    monkeypatch.setattr("acetrain.acestep.quantised.quantize_4bit", broken)
    with pytest.raises(Refused, match=r"nf4 does not work here with bitsandbytes \S+ on cpu \(no kernel for this pro"):
        PRECISIONS["nf4"].on(CPU)


def test_formats_for_training_alone_are_refused_elsewhere() -> None:
    assert precisions.Quantised.none is PRECISIONS["auto"].quantised
    for name in ("fp16", "int8", "nf4"):
        with pytest.raises(Refused, match=r"for preprocess"):
            PRECISIONS[name].check_encoding("preprocess")
    for name in ("fp32", "bf16", "auto"):
        PRECISIONS[name].check_encoding("generate")


def test_every_option_of_checkpointing_is_known() -> None:
    assert {mode.name for mode in Checkpointing} == {"none", "full", "selective"}


@pytest.mark.parametrize(("rank", "index"), [(0, 0), (1, 1), (3, 1)])
def test_each_process_of_a_node_has_a_card_of_its_own(monkeypatch, rank: int, index: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
    assert replace(option("trainer", "ddp"), nodes=2).device == torch.device("cuda", index)
