"""Where a run computes, how often it saves and looks, and when it gives up."""

from dataclasses import dataclass
from enum import Enum

from acetrain.errors import require


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
        for key in ("devices", "nodes", "checkpoint_every", "keep", "validate_every", "max_bad_steps"):
            require(getattr(self, key) >= 1, f"trainer.{key}", "at least 1", getattr(self, key))
        require(self.clip > 0, "trainer.clip", "above 0", self.clip)
