"""The device that a kind of accelerator stands for."""

import resource

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


def peak_memory(device: torch.device) -> int:
    """Bytes: the allocator's peak on a GPU, the process's peak elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory(device: torch.device) -> None:
    """Count a GPU's peak from now on; a process's peak never falls."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
