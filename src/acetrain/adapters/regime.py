"""What an adapter does in training beside following its gradient."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from acetrain.data.batch import Batch

Objective = Callable[["Batch"], "Tensor"]
"""The loss of a batch of songs, as it is trained on."""


class Regime:
    """Nothing: the adapter is trained by its gradient alone."""

    def begin(self, module: "nn.Module", objective: Objective) -> None:
        """Take first weights from songs, before the first step of a run; `module`, which holds the DiT, is on its
        device."""

    def penalty(self) -> "Tensor | None":
        """What is added to the loss of an optimizer step, once."""

    def stepped(self, step: int, finite: bool) -> None:
        """Follow the optimizer's step number `step`, counted from 1, the gradients still there; `finite` says whether
        it was taken."""

    def hold(self, step: int) -> None:
        """Keep averaged weights, which now stand where those that train do, to what these are kept to after `step`."""

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on, in plain containers and tensors."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave. Raises ValueError where it cannot."""
