"""An exponential average of a module's parameters."""

import torch


class Average:
    """Follows a module's parameters, faster while young so that it forgets where they started."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._live: list[torch.Tensor] = list(module.parameters())
        self._mean = [parameter.detach().clone() for parameter in self._live]
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the parameters as they are now."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + 10))
        torch._foreach_lerp_(self._mean, self._live, 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the module."""
        for parameter, mean in zip(self._live, self._mean, strict=True):
            parameter.copy_(mean)
