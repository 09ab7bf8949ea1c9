"""Where a run computes, how often it saves and looks, and when it gives up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.data.option import Data
from acetrain.errors import require
from acetrain.training.precision import Precision, Quantised
from acetrain.training.srun import check_tasks, cluster_environment

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from acetrain.acestep.dit import MaskedDiT


class Accelerator(Enum):
    """The kind of device."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Checkpointing(Enum):
    """Which blocks' activations are computed again in the backward pass."""

    none = "none"
    full = "full"
    selective = "selective"


class Compile(Enum):
    """What is compiled."""

    off = "off"
    block = "block"


@dataclass
class TrainerOption:
    """Devices, checkpoints and the guards of a run."""

    accelerator: Accelerator
    """Kind of device; auto takes a GPU where there is one, gpu refuses to run without."""
    devices: int
    """Processes, each with a device, on each node; more than 1 trains data-parallel."""
    nodes: int
    """Machines the run spans."""
    shard: bool
    """Whether the processes share the frozen base out among them, a block at a time (FSDP2, Zhao et al. 2023, torch's
    `fully_shard`), instead of each holding all of it. The adapter is whole on each; the result is the same."""
    validation_quantiles: int
    """Timesteps every held-out song is judged at: the middle quantiles of equal shares of the model's own density. The
    held-out loss is the unweighted squared error there, whatever a run trains with, so that runs compare."""
    checkpoint_every: int
    """Steps between checkpoints; one is also written at the end and on SIGTERM, SIGINT, SIGUSR1 or SIGUSR2."""
    keep: int
    """Newest checkpoints kept."""
    validate_every: int
    """Steps between validations; one is also made before the first step and after the last."""
    clip: float
    """Largest norm of the gradient; larger ones are scaled down to it."""
    max_bad_steps: int
    """Steps in a row with a non-finite loss or gradient after which the run fails; each of them is skipped."""
    gradient_checkpointing: Checkpointing
    """Which blocks keep no activations but compute them again in the backward pass (Chen et al. 2016): none, full (all
    of them: least memory, about a third more time), or selective (every k-th). The gradients are the same."""
    gradient_checkpointing_every: int
    """The k of selective, at least 1: 2 is every other block, 3 every third."""
    compile: Compile
    """off, or block: `torch.compile` of each of the DiT's blocks. The first steps take a minute, the others less time;
    the loss is the same to rounding."""

    def __post_init__(self) -> None:
        for key in (
            "devices",
            "nodes",
            "checkpoint_every",
            "keep",
            "validate_every",
            "validation_quantiles",
            "max_bad_steps",
            "gradient_checkpointing_every",
        ):
            require(getattr(self, key) >= 1, f"trainer.{key}", "at least 1", getattr(self, key))
        require(self.clip > 0, "trainer.clip", "above 0", self.clip)
        alone = self.devices * self.nodes == 1
        require(not (self.shard and alone), "trainer.shard", "false for a single process", self.shard)

    def check(self, precision: Precision, data: Data) -> None:
        """Raise Refused where a base that is shared out does not go with how it is stored or batches are sized."""
        if not self.shard:
            return
        whole = precision.quantised is Quantised.none
        require(whole, "precision.quantised", "none where trainer.shard is true", precision.quantised.name)
        number = "a number where trainer.shard is true, as ranks cannot try what fits one by one"
        require(data.budget is not None, "data.max_frames", number, data.max_frames)

    @property
    def device(self) -> "torch.device":
        """The device that this process trains on. Raises Refused where it is not there as asked for."""
        import torch

        from acetrain.training.device import check_compiler, check_count, device_of
        from acetrain.training.replicas import own_rank

        check_tasks(self.devices, self.nodes)
        device = device_of(self.accelerator, apple=True)
        check_count(device, self.devices)
        if self.compile is Compile.block:
            check_compiler(device)
        return torch.device("cuda", own_rank() % self.devices) if device.type == "cuda" else device

    @property
    def recomputed(self) -> int:
        """Every how many blocks one is recomputed; 0 where none is."""
        every = {
            Checkpointing.none: 0,
            Checkpointing.full: 1,
            Checkpointing.selective: self.gradient_checkpointing_every,
        }
        return every[self.gradient_checkpointing]

    def prepare(self, dit: "MaskedDiT") -> None:
        """Have a DiT with its adapter recompute and compile its blocks as asked for."""
        dit.recompute(self.recomputed)
        if self.compile is Compile.block:
            dit.compile_blocks()

    def build(self, precision: Precision, loggers: "Sequence[Logger]", callback: "Callback", folder: Path) -> "Trainer":
        """Lightning's Trainer for one pass over the loader, in formats that are settled; position, checkpoints and
        validation are the callback's."""
        import logging

        from lightning.pytorch import Trainer

        from acetrain.training.replicas import Replicas, Shards

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        device = self.device
        replicas, environment = Shards() if self.shard else Replicas(), cluster_environment()
        return Trainer(
            accelerator=device.type,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=replicas if self.devices * self.nodes > 1 else "auto",
            plugins=[precision.plugin(device), *([environment] if environment else [])],
            max_epochs=1,
            logger=list(loggers) or False,
            callbacks=[callback],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            use_distributed_sampler=False,
        )
