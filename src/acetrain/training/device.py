"""The device that a kind of accelerator stands for."""

import resource
import shutil
from importlib.util import find_spec

import torch

from acetrain.errors import Refused
from acetrain.training.trainer import Accelerator


def device_of(accelerator: Accelerator, apple: bool = False) -> torch.device:
    """The first CUDA GPU, an Apple GPU, or the CPU.

    `apple` is whether auto takes an Apple GPU; gpu takes it always. Raises `Refused` where a GPU is asked for and there
    is none.
    """
    if accelerator is Accelerator.cpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available() and (apple or accelerator is Accelerator.gpu):
        return torch.device("mps")
    if accelerator is Accelerator.gpu:
        raise Refused("accelerator: gpu was asked for, and torch finds none; use cpu or auto")
    return torch.device("cpu")


def check_count(device: torch.device, count: int, key: str = "trainer.devices") -> None:
    """Raise `Refused` where a node has fewer GPUs than processes that want one."""
    if device.type != "cpu" and (found := torch.cuda.device_count() or 1) < count:
        raise Refused(f"{key}: must be at most {found}, the GPUs here, got {count}")


def check_compiler(device: torch.device) -> None:
    """Raise `Refused` where `torch.compile` lacks what it makes code with."""
    if device.type == "cuda" and find_spec("triton") is None:
        raise Refused("trainer.compile: block needs triton on a GPU, which is not installed; off runs without")
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise Refused("trainer.compile: block needs a C++ compiler on a CPU, there is no c++, g++ or clang++; use off")


def peak_memory(device: torch.device) -> int:
    """Bytes: the allocator's peak on a GPU, the process's peak elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory(device: torch.device) -> None:
    """Count a GPU's peak from now on; a process's peak never falls."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
