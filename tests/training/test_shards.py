"""Two ranks that share out the base take the steps of one, and leave what one would."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fabricate import attached, cache, module, song
from runs import FORKS, adapter, metrics, train, train_from_the_shell
from test_ranks import summed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from acetrain.adapters.injection import adapter_state, trainable
from acetrain.training.replicas import shard

pytestmark = pytest.mark.slow

SONGS = [song(frames, 20 + frames % 7, seed=frames) for frames in (150, 90, 61, 44)]


def gradient(rank: int, ranks: int, every: int) -> torch.Tensor:
    """The gradient of a step of four songs after this rank has done its part and the ranks have summed."""
    training = module(attached())
    training.dit.recompute(every)
    if ranks > 1:
        shard(training.dit, init_device_mesh("cpu", (ranks,)))
        whole = dict(training.dit.named_parameters())
        assert not any(isinstance(weight, DTensor) for weight in trainable(training.dit).values())
        stored = whole["layers.0.mlp.up_proj.weight"]
        assert isinstance(stored, DTensor) and stored.to_local().shape[0] == stored.shape[0] // ranks
    parameters = summed(training, SONGS, rank, ranks)
    assert all(type(value) is torch.Tensor for value in adapter_state(training.dit).values())
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


def one_of(ranks: int, rank: int, every: int, folder: Path) -> None:
    """A rank's process."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    torch.save(gradient(rank, ranks, every), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("every", [0, 1, 2])
def test_the_gradient_on_a_shared_base_is_that_of_one_rank(tmp_path: Path, every: int) -> None:
    processes = [FORKS.Process(target=one_of, args=(2, rank, every, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    alone = gradient(0, 1, every)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert (found - alone).norm() / alone.norm() < 5e-6


def test_a_run_on_a_shared_base_is_that_of_one_and_goes_on_with_one(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=7)
    one, shared, resumed, alone = (tmp_path / name for name in ("one", "shared", "resumed", "alone"))
    fsdp = ["trainer=fsdp", "trainer.accelerator=cpu", "data.validation=0.45"]
    assert train(songs, one, "max_steps=6", fsdp[2]).returncode == 0
    done = train_from_the_shell(songs, shared, *fsdp, "max_steps=6")
    assert done.returncode == 0, done.stderr
    for ours, theirs in zip(metrics(shared), metrics(one), strict=True):
        for key in ("loss", "grad_norm", "val_loss"):
            assert ours[key] == theirs[key] == "" or float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-5)
    assert train_from_the_shell(songs, resumed, *fsdp, "max_steps=3").returncode == 0
    assert train_from_the_shell(songs, resumed, *fsdp, "max_steps=6").returncode == 0
    ours, theirs = adapter(resumed), adapter(shared)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert {name: value.shape for name, value in adapter(one).items()} == {n: v.shape for n, v in theirs.items()}
    assert train_from_the_shell(songs, alone, *fsdp, "max_steps=3").returncode == 0
    assert train(songs, alone, "max_steps=6", fsdp[2]).returncode == 0
    assert metrics(alone)[-1]["step"] == "6"
    size = {run: max(run.glob("step-*.ckpt")).stat().st_size for run in (one, shared)}
    assert abs(size[one] - size[shared]) < 4096


def test_a_base_is_not_shared_out_where_ranks_could_not_agree(tmp_path: Path) -> None:
    songs = cache(tmp_path / "cache", songs=2)
    for override, message in (
        ("data.max_frames=auto", "data.max_frames: must be a number where trainer.shard is true"),
        ("precision=nf4", "precision.quantised: must be none where trainer.shard is true, got 'nf4'"),
    ):
        done = train(songs, tmp_path / "run", "trainer=fsdp", override, "max_steps=200")
        assert done.returncode == 2 and message in done.stderr and not (tmp_path / "run").exists()
