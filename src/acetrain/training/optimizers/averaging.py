"""Optimizers that train one set of weights and are judged by another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch.optim import Optimizer


class Averaging(Protocol):
    """An optimizer that can switch its weights between those it trains and their average."""

    def train(self) -> object:
        """Give the weights the values that are trained."""

    def eval(self) -> object:
        """Give the weights the values of the average."""


def averages(optimizer: Optimizer) -> bool:
    """Whether the optimizer can switch to an average."""
    return hasattr(optimizer, "eval") and hasattr(optimizer, "train")


@contextmanager
def averaged(optimizer: Optimizer) -> Iterator[None]:
    """Within it the weights are the optimizer's average; after it they are to the bit what they were.

    The optimizer's own way back is by arithmetic, and rounds.
    """
    switching = cast(Averaging, optimizer)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    trained = [weight.detach().clone() for weight in weights]
    switching.eval()
    try:
        yield
    finally:
        switching.train()
        with torch.no_grad():
            for weight, value in zip(weights, trained, strict=True):
                weight.copy_(value)
