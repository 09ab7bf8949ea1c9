"""Steps timed as Lightning runs them, and what a device can do at best."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback


@dataclass
class Timer(Callback):
    """Seconds and peak memory of every step; steps end by reading their loss, so that a GPU has done its work."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    """Peak of the allocator in each step; 0 on a CPU."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # pyright: ignore
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # pyright: ignore
        on_gpu = pl_module.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(pl_module.device)
        self.seconds.append(time.perf_counter() - self.start)
        self.peak_bytes.append(torch.cuda.max_memory_allocated(pl_module.device) if on_gpu else 0)


def matmul_peak(device: torch.device, dtype: torch.dtype, tries: int = 10) -> float:
    """Operations a second of the fastest of some square matrix products: 8192 wide on a GPU, 2048 on a CPU."""
    width = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(tries + 2):
        start = time.perf_counter()
        product = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
        del product
    return 2 * width**3 / min(seconds[2:])


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(figure: dict[str, float], digits: int = 2) -> str:
    """A summary as `median (min-max)`."""
    return f"{figure['median']:.{digits}f} ({figure['min']:.{digits}f}-{figure['max']:.{digits}f})"
