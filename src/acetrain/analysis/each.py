"""The same small computation for many modules: one thread a module, as many modules at a time as there are cores."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from acetrain.tracking.counted import counted

Result = TypeVar("Result")


def for_each(label: str, names: Iterable[str], function: Callable[[str], Result]) -> dict[str, Result]:
    """`function` of every name, by name in their order, with a progress bar.

    Threads within a factorisation of thin matrices wait for each other more than they compute.
    """
    names = list(names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with one_thread(), ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = [pool.submit(function, name) for name in names]
        try:
            with counted(label, len(names)) as advance:
                results = []
                for future in running:
                    results.append(future.result())
                    advance()
        finally:
            for future in running:
                future.cancel()
    return dict(zip(names, results, strict=True))


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it torch computes in the thread that asks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
