"""fp16: losses are scaled up for the backward pass, and a scale that is too large costs a step and nothing else."""

from pathlib import Path

import pytest
import torch
from fabricate import cache
from lightning.pytorch import Trainer
from modes import PRECISIONS, ready
from runs import adapter, metrics, train

from acetrain.adapters.injection import adapter_state, trainable
from acetrain.data.batch import Batch, collate
from acetrain.errors import Failed
from acetrain.training.module import FlowMatching, StepReport

CPU = torch.device("cpu")


def in_training(scale: float, interval: int = 2000) -> FlowMatching:
    """A module in fp16 as it stands in Lightning's hands, its losses scaled by `scale`."""
    training = ready(CPU, PRECISIONS["fp16"])
    training.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=interval)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    training.trainer = trainer
    trainer.strategy.connect(training)
    trainer.strategy.optimizers = [training.configure_optimizers()]
    return training


def batch(loudness: float = 1.0) -> Batch:
    draw = torch.Generator().manual_seed(0)
    latents, condition = (torch.randn(40, size, generator=draw) for size in (18, 64))
    return collate([(loudness * latents, condition[:20])], [(0, 0, "a.wav", 0)], 1.0)


def take(training: FlowMatching, loudness: float = 1.0) -> StepReport:
    with PRECISIONS["fp16"].autocast(CPU):
        training.training_step([batch(loudness)], 0)
    assert training.report is not None
    return training.report


def test_an_overflow_halves_the_scale_and_is_no_bad_step(capsys) -> None:
    training = in_training(2.0**40)
    before = adapter_state(training.dit)
    for step in range(1, 5):
        report = take(training)
        assert report.skipped and report.loss < 100 and training.bad_steps == 0
        assert training.scaler.get_scale() == 2.0 ** (40 - step)
    after = adapter_state(training.dit)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "step 1 skipped: its gradients overflow; losses are now scaled by 5.49756e+11"


def test_the_scale_changes_no_gradient() -> None:
    norms = [take(in_training(scale)).grad_norm for scale in (2.0**4, 2.0**10)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3) and norms[0] > 0


def test_the_scale_grows_while_all_goes_well() -> None:
    training = in_training(8.0, interval=2)
    before = adapter_state(training.dit)
    scales = [(take(training).skipped, training.scaler.get_scale()) for _ in range(4)]
    assert scales == [(False, 8.0), (False, 16.0), (False, 16.0), (False, 32.0)]
    assert any(not torch.equal(adapter_state(training.dit)[name], value) for name, value in before.items())
    assert training.figures() == {"loss_scale": 32.0}


def test_a_loss_that_is_not_finite_is_a_bad_step(capsys) -> None:
    training = in_training(1024.0)
    for step in range(training.recipe.max_bad_steps):
        if step == training.recipe.max_bad_steps - 1:
            with pytest.raises(Failed, match=r"trainer\.max_bad_steps: 3 steps in a row"):
                take(training, loudness=1e30)
        else:
            assert take(training, loudness=1e30).skipped
    assert "non-finite loss or gradient with a.wav" in capsys.readouterr().out


def test_gradients_that_are_not_finite_at_any_scale_end_the_run() -> None:
    training = in_training(4.0)
    next(iter(trainable(training.dit).values())).register_hook(lambda gradient: gradient * float("nan"))
    for expected in (0, 0, 1, 2):
        assert take(training).skipped and training.bad_steps == expected
    with pytest.raises(Failed, match=r"trainer\.max_bad_steps"):
        take(training)


@pytest.mark.slow
def test_a_run_in_fp16_goes_on_to_the_bit(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=5)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    arguments = ["precision=fp16", "adapter.dropout=0.1"]
    assert train(songs, straight, *arguments, "max_steps=8").returncode == 0
    for steps in (3, 8):
        assert train(songs, stopped, *arguments, f"max_steps={steps}").returncode == 0
    ours, theirs = adapter(stopped), adapter(straight)
    assert [row["loss_scale"] for row in metrics(straight)] == ["65536"] * 8
    checkpoints = [torch.load(max(run.glob("step-*.ckpt")), weights_only=True) for run in (stopped, straight)]
    assert checkpoints[0]["scaler"] == checkpoints[1]["scaler"] and checkpoints[0]["scaler"]["_growth_tracker"] == 8
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    done = train(songs, stopped, "precision=bf16", *arguments[1:], "max_steps=9")
    assert done.returncode == 2 and "precision.base (fp16 there, bf16 here)" in done.stderr
