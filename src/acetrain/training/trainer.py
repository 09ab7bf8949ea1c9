"""Where a run computes, how often it saves and looks, and when it gives up."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.errors import require
from acetrain.training.precision import Precision

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger


class Accelerator(Enum):
    """The kind of device."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


@dataclass
class TrainerOption:
    """Devices, checkpoints and the guards of a run."""

    accelerator: Accelerator
    """Kind of device; auto takes a GPU where there is one."""
    devices: int
    """Processes, each with a device, on each node; more than 1 trains data-parallel."""
    nodes: int
    """Machines the run spans."""
    validation_quantiles: int
    """Timesteps every held-out song is judged at: the middle quantiles of equal shares of the training density."""
    checkpoint_every: int
    """Steps between checkpoints; one is also written at the end and on SIGTERM, SIGINT and SIGUSR1."""
    keep: int
    """Newest checkpoints kept."""
    validate_every: int
    """Steps between validations; one is also made before the first step and after the last."""
    clip: float
    """Largest norm of the gradient; larger ones are scaled down to it."""
    max_bad_steps: int
    """Steps in a row with a non-finite loss or gradient after which the run fails; each of them is skipped."""
    gradient_checkpointing: bool
    """Recompute activations in the backward pass: less memory, about a third more time, the same gradients."""

    def __post_init__(self) -> None:
        for key in (
            "devices",
            "nodes",
            "checkpoint_every",
            "keep",
            "validate_every",
            "validation_quantiles",
            "max_bad_steps",
        ):
            require(getattr(self, key) >= 1, f"trainer.{key}", "at least 1", getattr(self, key))
        require(self.clip > 0, "trainer.clip", "above 0", self.clip)

    def build(self, precision: Precision, loggers: "Sequence[Logger]", callback: "Callback", folder: Path) -> "Trainer":
        """Lightning's Trainer for one pass over the loader; position, checkpoints and validation are the callback's."""
        import logging

        from lightning.pytorch import Trainer

        from acetrain.training.replicas import Replicas

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        return Trainer(
            accelerator=self.accelerator.value,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=Replicas() if self.devices * self.nodes > 1 else "auto",
            precision=precision.lightning(),
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
