"""Data-parallel ranks that own their gradients: the step sums them itself, once, after its last micro-batch."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from acetrain.adapters.injection import START


class Replicas(DDPStrategy):
    """Lightning's DDP launching and process group without its wrapper, which averages by rank instead of by song."""

    def configure_ddp(self) -> None:
        """Leave the module as it is; every rank has built the same adapter from the same seed."""

    def teardown(self) -> None:
        """End the process group too: the next run of a multirun in this process makes its own."""
        super().teardown()
        if dist.is_initialized():
            dist.destroy_process_group()


class Shards(Replicas):
    """Replicas that share out the frozen base among them; the adapter is whole on each."""

    def model_to_device(self) -> None:
        """Share the base out block by block, so that no rank's device ever holds all of it; then move the rest."""
        module = self.lightning_module
        assert module is not None
        shard(module.dit, init_device_mesh(self.root_device.type, (self.world_size,)))  # pyright: ignore
        super().model_to_device()


def shard(dit: nn.Module, mesh: DeviceMesh) -> None:
    """Leave each rank of `mesh` a part of the frozen weights of each block, which is whole only while it computes.

    Weights of adapters stay as they are, and so does the little that lies outside of the blocks. All ranks must from
    now on run the blocks equally often.
    """
    for block in dit.get_submodule("layers").children():
        own = {weight for name, weight in block.named_parameters() if weight.requires_grad or START in name.split(".")}
        fully_shard(block, mesh=mesh, ignored_params=own)
        block.register_forward_pre_hook(_in_order)


def _in_order(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The block's inputs, its frames in order in memory.

    fully_shard gives a lone song's frames other strides in the forward pass than in its recomputation, and by strides
    torch chooses the product, and so what it keeps for the backward pass: the two would not match.
    """
    return (inputs[0].contiguous(), *inputs[1:]) if inputs else inputs  # named ones are those of no recomputation


def own_rank() -> int:
    """This process's rank; known before the process group is there."""
    return getattr(rank_zero_only, "rank", 0)


def first_rank() -> bool:
    """Whether this process is the one that writes; known before the process group is there."""
    return own_rank() == 0


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over ranks, in one all-reduce.

    Where some ranks have none, as modules may be dropped on a rank, theirs count as zero; what no rank has stays None.
    """
    if not dist.is_initialized():
        return
    weights = list(parameters)
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    had = gradients[0].new_tensor([weight.grad is not None for weight in weights])
    flat = _flatten_dense_tensors([*gradients, had])
    dist.all_reduce(flat)
    *totals, ranks = _unflatten_dense_tensors(flat, [*gradients, had])
    for weight, gradient, total, count in zip(weights, gradients, totals, ranks.tolist(), strict=True):
        weight.grad = gradient.copy_(total) if count else None


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over ranks."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def largest_over_ranks(value: int, device: torch.device) -> int:
    """The largest `value` of any rank."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared.item())


def smallest_over_ranks(value: int, device: torch.device) -> int:
    """The smallest `value` of any rank."""
    return -largest_over_ranks(-value, device)
