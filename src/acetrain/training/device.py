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
