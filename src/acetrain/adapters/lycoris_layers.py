"""LyCORIS' modules on linear layers of the DiT.

They are made and computed by LyCORIS, without its network, whose presets are state of the class. Three things differ:
what is added to the weight is multiplied with the inputs by itself and not rounded to the base's format first, weights
that are decomposed are decomposed in fp32, and of the kernels that LyCORIS may choose from, torch's are taken on every
device, so that a run is the same wherever it runs.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from lycoris.kernels.dispatch import demote
from lycoris.logging import logger
from lycoris.modules import LoConModule, LohaModule, LokrModule, get_module, make_module
from lycoris.modules.base import LycorisBaseModule
from torch import Tensor, nn
from torch.nn.functional import linear as product

from acetrain.keyed import seed_of

CHILD = "lycoris"
"""Name of a LyCORIS module in the linear layer that it is attached to."""

for _backend in ("triton", "tilelang", "compile"):
    demote(_backend)
logger.setLevel(logging.ERROR)  # it tells of full factors, which the table of modules shows


class Attached(LycorisBaseModule):
    """A LyCORIS module as it is attached here."""

    strength = 1.0
    """Factor of what a decomposed weight departs by; LyCORIS' own multiplier leaves its direction out."""

    def _current_weight(self) -> Tensor:
        return super()._current_weight().float()

    def departing(self, x: Tensor, weight: Tensor, bias: None = None) -> Tensor:
        """The product with a difference of weights, in the format of the inputs."""
        return product(x, (self.strength * weight).to(x.dtype))

    def settle(self) -> None:
        """Make it compute as said above, and a decomposed weight begin at the base's to the bit."""
        self.bypass_mode = not self.wd  # pyright: ignore[reportAttributeAccessIssue]
        self.op = self.departing

    def update(self) -> Float[Tensor, "output input *kernel"]:
        """What it adds to the weight."""
        module: Any = self
        weight, is_lora = module._current_weight(), isinstance(self, LoConModule)
        added = module.make_weight() * module.scale if is_lora else module.get_weight(module.shape)
        if module.wd:
            return self.strength * (module.apply_weight_decompose(weight + added) - weight)
        return module.multiplier * added


class LoCon(Attached, LoConModule):
    """B A, with magnitudes or without."""


class LoHa(Attached, LohaModule):
    """(B1 A1) ∘ (B2 A2)."""


class LoKr(Attached, LokrModule):
    """C ⊗ (B A)."""


KINDS: Mapping[str, Any] = {"locon": LoCon, "loha": LoHa, "lokr": LoKr}
"""Algorithm -> its module."""
_OURS: Mapping[Any, Any] = {LoConModule: LoCon, LohaModule: LoHa, LokrModule: LoKr}


def attach(
    dit: nn.Module, algorithm: str, sizes: Mapping[str, tuple[int, float]], settings: Mapping[str, Any], seed: int
) -> None:
    """Attach a module to each of the linear layers that `sizes` gives a rank and an alpha.

    Raises RuntimeError if modules other than the named ones carry one afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "adapter"))
        for name, (rank, alpha) in sizes.items():
            layer = dit.get_submodule(name)
            module = KINDS[algorithm](
                name, layer, lora_dim=rank, alpha=alpha, bypass_mode=not settings["weight_decompose"], **settings
            )
            module.settle()
            begin_at(layer, module)
            wrap(layer, module, CHILD)
    if lycoris_layers(dit).keys() != sizes.keys():
        raise RuntimeError(f"LyCORIS attached to {sorted(lycoris_layers(dit).keys() ^ sizes.keys())[:5]} against this")


def begin_at(layer: nn.Module, module: Any) -> None:
    """Let a decomposed weight's magnitudes be the lengths of the base's rows as LyCORIS measures them: nothing changes.

    LyCORIS takes them without the epsilon that it divides by.
    """
    if module.wd:
        rows = layer.weight.detach().float()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        lengths = rows.norm(dim=1) + torch.finfo(torch.float32).eps
        module.dora_scale.data = lengths.reshape(-1, 1)


def read(layer: nn.Module, key: str, parts: Mapping[str, Tensor]) -> Any:
    """A module with the tensors of a file, made by LyCORIS' reading of them, by which it knows rank and algorithm."""
    named = {f"{key}.{part}": tensor for part, tensor in parts.items()}
    kind, weights = get_module(named, key)
    if weights is None or kind not in _OURS:
        raise KeyError(f"no algorithm that is read here has {', '.join(sorted(parts))}")
    module: Any = make_module(_OURS[kind], weights, key, layer)
    module.settle()
    return module


def wrap(layer: nn.Module, module: Any, called: str) -> None:
    """Let the linear layer compute through the module, which becomes part of it."""
    module.to(layer.weight.device)
    module.apply_to()
    layer.add_module(called, module)


@torch.no_grad()
def fold(layer: nn.Module, module: Any) -> None:
    """Add what the module adds to the layer's weight to it, in fp32."""
    weight: Any = layer.weight
    weight.data = (weight.float() + module.to(weight.device).update().view(weight.shape)).to(weight.dtype)


def strengthen(module: Any, scale: float) -> None:
    """Multiply what the module adds to the layer's weight by `scale`."""
    if module.wd:
        module.strength *= scale
    else:
        module.multiplier *= scale


def lycoris_layers(dit: nn.Module) -> dict[str, Any]:
    """The modules that are attached first, by the name of their linear layer."""
    found = {name: module for name, module in dit.named_modules() if isinstance(module, Attached)}
    return {name.removesuffix(f".{CHILD}"): module for name, module in found.items() if name.endswith(f".{CHILD}")}
