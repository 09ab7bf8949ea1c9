"""Two ranks take the steps of one, and resume as one does."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fabricate import attached, cache, module, song
from runs import FORKS, adapter, metrics, train, train_from_the_shell
from torch import nn

from acetrain.adapters.injection import trainable
from acetrain.data.batch import collate
from acetrain.data.split import deal
from acetrain.training.draws import draw
from acetrain.training.module import FlowMatching
from acetrain.training.replicas import largest_over_ranks, sum_gradients, sum_over_ranks

SONGS = [song(frames, 20 + frames % 7, seed=frames) for frames in (150, 90, 61, 44, 37)]


def summed(
    training: FlowMatching, songs: Sequence[tuple[torch.Tensor, torch.Tensor]], rank: int, ranks: int
) -> list[nn.Parameter]:
    """What trains, with the gradients of a step on all songs, of which this rank has done its part."""
    for group in deal([len(latents) for latents, _ in songs], max_frames=200, ranks=ranks)[rank]:
        chosen = group or (0,)
        keys = [(0, 0, f"{index}.wav", 0) for index in chosen]
        batch = collate([songs[index] for index in chosen], keys, 1 / len(songs) if group else 0.0)
        losses = training.song_losses(batch, draw(batch, training.recipe.timesteps, 0.15))
        (losses * batch.weight).sum().backward()
    parameters = list(trainable(training.dit).values())
    sum_gradients(parameters)
    return parameters


def gradient(rank: int, ranks: int) -> torch.Tensor:
    """The gradient of a step of five songs after this rank has done its part and the ranks have summed."""
    training = module(attached())
    parameters = summed(training, SONGS, rank, ranks)
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def dropped(rank: int) -> list[torch.Tensor | None]:
    """The summed gradients of weights that all ranks, the first rank alone, and no rank have one of."""
    weights = [nn.Parameter(torch.zeros(size)) for size in (2, 3, 4)]
    for weight in weights[: 2 if rank == 0 else 1]:
        weight.grad = torch.full_like(weight, rank + 1.0)
    sum_gradients(weights)
    return [weight.grad for weight in weights]


def one_of(ranks: int, rank: int, folder: Path) -> None:
    """A rank's process."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    found = gradient(rank, ranks)
    total = sum_over_ranks(torch.tensor([rank + 1.0]))
    largest = largest_over_ranks(15 if rank == 1 else 0, torch.device("cpu"))
    torch.save((found, total.item(), largest, dropped(rank)), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_gradient_of_several_ranks_is_that_of_one(tmp_path: Path, ranks: int) -> None:
    processes = [FORKS.Process(target=one_of, args=(ranks, rank, tmp_path)) for rank in range(ranks)]
    for process in processes:
        process.start()
    alone = gradient(0, 1)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for rank in range(ranks):
        found, total, largest, (everywhere, once, nowhere) = torch.load(tmp_path / f"{rank}.pt")
        assert (found - alone).norm() / alone.norm() < 1e-6
        assert total == sum(range(1, ranks + 1)) and largest == 15
        assert everywhere.tolist() == [total] * 2 and once.tolist() == [1.0] * 3 and nowhere is None


@pytest.mark.slow
def test_a_run_of_two_ranks_is_that_of_one_and_resumes_exactly(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=6)
    one, two, resumed = (tmp_path / name for name in ("one", "two", "resumed"))
    assert train(songs, one, "max_steps=6", "ema=ema").returncode == 0
    music = ["samples=prompts", "samples.every=4", "model.steps=1", "samples.prompts=[{caption: a, duration: 1}]"]
    done = train_from_the_shell(songs, two, "max_steps=6", "ema=ema", "trainer.devices=2", *music)
    assert done.returncode == 0, done.stderr
    assert {file.stem for file in two.rglob("samples/*/*.wav")} == {"base", "step-00000004", "step-00000006"}
    for ours, theirs in zip(metrics(two), metrics(one), strict=True):
        for key in ("loss", "grad_norm"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-5)
        assert ours["songs"] == theirs["songs"] and ours["frames"] == theirs["frames"]
    for more in (["max_steps=3"], ["max_steps=6", "data.workers=1"]):
        assert train_from_the_shell(songs, resumed, "ema=ema", "trainer.devices=2", *more).returncode == 0
    for saved in ("adapter", "adapter_ema"):
        ours, theirs, alone = adapter(resumed, saved), adapter(two, saved), adapter(one, saved)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert all((theirs[name] - alone[name]).norm() < 1e-3 * alone[name].norm() for name in alone)
