"""A running average of weights, by torch's own averaging over them alone."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn


class Average(nn.Module):
    """The average of some weights of a model. It follows them to their device with the module it belongs to."""

    def __init__(self, weights: Iterable[nn.Parameter], decay_after: Callable[[int], float], start: int) -> None:
        """Start at the present values; `decay_after` is the decay by the number of averaged states, `start` the last
        step that only copies."""
        super().__init__()
        self.decay_after, self.start = decay_after, start
        held = _held(weights)
        self.averaged = AveragedModel(held, multi_avg_fn=self._average)
        self.averaged.update_parameters(held)
        self.requires_grad_(False)

    def _average(self, averages: PARAM_LIST, weights: PARAM_LIST, states: Tensor | int) -> None:
        get_ema_multi_avg_fn(self.decay_after(int(states)))(averages, weights, states)

    def follow(self, weights: Iterable[nn.Parameter], step: int) -> None:
        """Take in the weights after step `step`, counted from 1; up to `start` they are only copied."""
        if step <= self.start:
            self.averaged.n_averaged.zero_()
        self.averaged.update_parameters(_held(weights))

    @contextmanager
    def within(self, weights: Iterable[nn.Parameter]) -> Iterator[None]:
        """Within it the weights have the average's values; after it they are to the bit what they were."""
        weights = list(weights)
        trained = [weight.detach().clone() for weight in weights]
        _copy(weights, list(self.averaged.module.parameters()))
        try:
            yield
        finally:
            _copy(weights, trained)

    def state(self) -> dict[str, Tensor]:
        """A copy on the CPU, to go on from."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.averaged.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave. Raises ValueError where it is of other weights."""
        try:
            self.averaged.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from error


def _held(weights: Iterable[nn.Parameter]) -> nn.ParameterList:
    return nn.ParameterList(weights)


@torch.no_grad()
def _copy(weights: list[nn.Parameter], values: "list[nn.Parameter] | list[Tensor]") -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
