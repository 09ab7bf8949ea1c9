"""An adapter's update beside frozen layers, as factors that can be watched and exchanged without PEFT."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, linear

from acetrain.acestep.names import official
from acetrain.analysis.truncate import Decomposed
from acetrain.errors import Refused


@dataclass
class Passing:
    """What passes through one module's update U diag(s) V' in a forward pass, a row for every token."""

    inputs: Tensor
    """z = V'x, without a graph."""
    scaled: Tensor
    """diag(s) z, whose gradient is U'g."""


@dataclass
class Beside:
    """Updates added to the outputs of layers, in the layers' own format but for their factors, which are fp32."""

    updates: Mapping[str, Decomposed]
    watching: bool = False
    """Whether a forward pass leaves what passes through behind."""
    seen: dict[str, Passing] = field(default_factory=dict)
    factors: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def use(self, updates: Mapping[str, Decomposed], device: torch.device) -> None:
        """Add these updates from now on; a module that has none of rank 1 or more gets nothing."""
        self.factors = {
            name: (one.u.to(device, torch.float32), one.s.to(device, torch.float32), one.v.T.to(device, torch.float32))
            for name, one in updates.items()
            if one.rank
        }

    @contextmanager
    def added_to(self, dit: nn.Module) -> Iterator["Beside"]:
        """Within it the DiT computes with the updates. Raises Refused where a module is not there or of other sizes."""
        check_fits(dit, self.updates)
        self.use(self.updates, next(dit.parameters()).device)
        handles = [
            dit.get_submodule(name).register_forward_hook(self._hook(name, one.kernel))
            for name, one in self.updates.items()
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str, kernel: tuple[int, ...]) -> Any:
        def hook(layer: Any, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if name not in self.factors:
                return output
            u, s, v = self.factors[name]
            with torch.autocast(output.device.type, enabled=False):
                rows = _projected(layer, arguments[0].float(), v, kernel)
                scaled = rows * s
                if self.watching:
                    scaled.requires_grad_(True)
                    self.seen[name] = Passing(rows.detach().flatten(0, -2), scaled)
                added = linear(scaled, u)
            return output + (added.movedim(-1, 1) if kernel else added).to(output.dtype)

        return hook


def _projected(layer: Any, x: Tensor, v: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """V'x of every token, its coordinates last."""
    if not kernel:
        return linear(x, v)
    convolve = conv1d if len(kernel) == 1 else conv2d
    weight = v.reshape(len(v), -1, *kernel)
    return convolve(x, weight, None, layer.stride, layer.padding, layer.dilation).movedim(1, -1)


def check_fits(dit: nn.Module, updates: Mapping[str, Decomposed]) -> None:
    """Raise Refused where an update is of a module that the DiT does not have, or of another shape."""
    modules = dict(dit.named_modules())
    for name, one in updates.items():
        weight = getattr(modules.get(name), "weight", None)
        if weight is None:
            raise Refused(f"adapter_path: it is for another base: {official(name)} is no layer of this one")
        ours, theirs = (weight.shape[0], weight[0].numel()), (one.u.shape[0], one.v.shape[0])
        if ours != theirs:
            raise Refused(
                f"adapter_path: it is for another base: {official(name)} is {list(theirs)} there and {list(ours)} here"
            )
