"""Formats, recomputation, compilation and 8-bit optimizers on a real card, held to the same tolerances as on a CPU."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from laws import resumes_to_the_bit
from modes import COMPILED, COSINE, LOSS, PRECISIONS, Stepped, assert_equal_to, assert_near, ready, stepped
from test_laws import option

from acetrain.training.precision import Precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CARD = torch.device("cuda", 0)
ROUNDING = 1e-3
"""Largest relative distance between fp32 on a card and on a CPU, and between two ways to compute it on a card."""


@pytest.fixture(scope="module", autouse=True)
def without_tf32() -> Iterator[None]:
    """torch lets cuDNN round the inputs of convolutions in fp32 to 10 bits, which alone is about `ROUNDING`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.backends.cudnn, "allow_tf32", False)
        yield


@pytest.fixture(scope="module")
def on_cpu() -> Stepped:
    return stepped(ready(torch.device("cpu")))


@pytest.fixture(scope="module")
def on_card() -> Stepped:
    return stepped(ready(CARD))


def test_fp32_is_that_of_a_cpu(on_cpu: Stepped, on_card: Stepped) -> None:
    assert_equal_to(on_card, on_cpu, ROUNDING)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_step_in_every_format_is_near_that_in_fp32(on_cpu: Stepped, name: str) -> None:
    if name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("the card has no bf16")
    training = ready(CARD, PRECISIONS[name])
    found = stepped(training, PRECISIONS[name])
    assert_near(found, on_cpu, max(LOSS[name], ROUNDING), COSINE[name])
    weights = [weight for weight in training.dit.parameters() if weight.requires_grad]
    assert all(weight.dtype is torch.float32 and weight.is_cuda for weight in weights)


@pytest.mark.parametrize("name", ["fp32", "bf16", "nf4_bf16"])
@pytest.mark.parametrize("every", [1, 2])
def test_recomputing_blocks_changes_nothing_and_keeps_less(name: str, every: int) -> None:
    plain, training = stepped(ready(CARD, PRECISIONS[name]), PRECISIONS[name]), ready(CARD, PRECISIONS[name])
    training.dit.recompute(every)
    found = stepped(training, PRECISIONS[name])
    assert_equal_to(found, plain, ROUNDING)
    assert found.kept < plain.kept


@pytest.mark.parametrize("every", [0, 1, 2])
def test_compiled_blocks_compute_the_same(on_card: Stepped, every: int) -> None:
    training = ready(CARD)
    training.dit.recompute(every)
    training.dit.compile_blocks()
    assert_equal_to(stepped(training), on_card, ROUNDING + COMPILED)


@pytest.mark.parametrize("name", ["bf16", "nf4_bf16"])
def test_compiled_blocks_compute_nearly_the_same_in_16_bits(on_cpu: Stepped, name: str) -> None:
    training = ready(CARD, PRECISIONS[name])
    training.dit.compile_blocks()
    assert_near(stepped(training, PRECISIONS[name]), on_cpu, LOSS[name], COSINE[name])


def test_an_overflow_in_fp16_halves_the_scale() -> None:
    fp16: Precision = replace(PRECISIONS["fp16"])
    training = ready(CARD, fp16)
    training.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    assert not stepped(training, fp16).gradient.isfinite().all()
    optimizer = training.configure_optimizers()
    training.scaler.unscale_(optimizer)
    training.scaler.update()
    assert training.scaler.get_scale() == 2.0**39


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit", "lion8bit", "adamw", "prodigy"])
def test_an_optimizer_goes_on_to_the_bit(name: str) -> None:
    resumes_to_the_bit(option("optimizer", name), CARD)
