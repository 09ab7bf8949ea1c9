"""The device that a kind of accelerator stands for."""

import torch

from acetrain.errors import Refused
from acetrain.training.trainer import Accelerator


def device_of(accelerator: Accelerator) -> torch.device:
    """The first GPU, or the CPU. Raises `Refused` where a GPU is asked for and there is none."""
    if accelerator is Accelerator.cpu or (accelerator is Accelerator.auto and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Refused("accelerator: gpu was asked for, and torch finds none; use cpu or auto")
    return torch.device("cuda", 0)


def check_devices(accelerator: Accelerator, count: int) -> None:
    """Raise `Refused` where a node has fewer GPUs than processes that want one."""
    if device_of(accelerator).type == "cuda" and torch.cuda.device_count() < count:
        raise Refused(f"trainer.devices: must be at most {torch.cuda.device_count()}, the GPUs here, got {count}")
