"""Several adapters as one LoRA, and what one checkpoint has more than another as a LoRA."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from acetrain.acestep.load import load_base
from acetrain.acestep.model import Model
from acetrain.adapters.held import nearest_lora
from acetrain.adapters.low_rank import LowRank, dense_update
from acetrain.adapters.updates import Updates
from acetrain.errors import Refused

Compute = Callable[[str], LowRank]


@dataclass(frozen=True)
class Change:
    """What is added to weights, module by module."""

    names: Sequence[str]
    """Diffusers spelling."""
    compute: Compute
    left_out: Mapping[str, float]
    """Changes of what is no weight of a layer -> their norms."""


@dataclass(frozen=True)
class Combined:
    """The LoRA that comes out."""

    updates: Mapping[str, LowRank]
    loss: float
    """|dW - dW'| / |dW| over all modules; 0 where nothing was cut."""


def weighted_sum(parts: Sequence[tuple[Updates, float]]) -> Change:
    """The sum of adapters' updates, each times its weight. Raises Refused, as it is computed, where shapes differ."""
    names = list(dict.fromkeys(name for updates, _ in parts for name in updates.names))
    left = {name: norm for updates, _ in parts for name, norm in updates.left_out.items()}
    return Change(names, lambda name: _concatenated(name, parts), left)


def _concatenated(name: str, parts: Sequence[tuple[Updates, float]]) -> LowRank:
    """Sum of w B A as the columns of all B beside the rows of all A, or dense where that is narrower."""
    found = [updates[name].times(weight) for updates, weight in parts if name in updates.names]
    shapes = {update.shape for update in found}
    if len(shapes) > 1:
        raise Refused(f"adapter_paths: must be of one base, {name} is {' and '.join(map(str, sorted(shapes)))}")
    whole = LowRank(
        torch.cat([update.b.double() for update in found], 1),
        torch.cat([update.a.double() for update in found]),
        found[0].kernel,
    )
    if not whole.rank:  # an AdaLoRA's that has none left; PEFT wants one at least
        outputs, inputs = whole.shape
        return LowRank(whole.b.new_zeros(outputs, 1), whole.a.new_zeros(1, inputs), whole.kernel)
    if whole.rank <= min(whole.shape):
        return whole
    flat = dense_update(whole.dense())
    return LowRank(flat.b, flat.a, whole.kernel)


def difference(base: Model, tuned: Model) -> Change:
    """What the layers of one checkpoint's DiT have more than another's, from weights in fp32.

    Raises Refused where the two are not of one shape, or the same.
    """
    dit, other = load_base(base, torch.float32).dit, load_base(tuned, torch.float32).dit
    before, after = dict(dit.named_parameters()), dict(other.named_parameters())
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise Refused(f"checkpoint: {tuned.path} must have the DiT's shapes of the model, has others")
    layers = {name for name, module in dit.named_modules() if isinstance(module, nn.Linear | nn.Conv1d)}
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    held = [name.removesuffix(".weight") for name in moved if name.removesuffix(".weight") in layers]
    if not held:
        raise Refused(f"checkpoint: {tuned.path} changes no weight of a layer of the model")
    left = {name: (after[name] - before[name]).norm().item() for name in moved if name[:-7] not in held}

    def change(name: str) -> LowRank:
        return dense_update(after[f"{name}.weight"].detach().double() - before[f"{name}.weight"].detach().double())

    return Change(held, change, left)


def combine(change: Change, rank: int | None, energy: float | None, advance: Callable[[], None]) -> Combined:
    """A LoRA of the change: exact where neither rank nor energy is given. `advance` is called after each module."""
    found, error, norm = {}, 0.0, 0.0
    for name in change.names:
        if rank is None and energy is None:
            found[name] = change.compute(name)
        else:
            found[name], lost, total = nearest_lora(change.compute(name), rank, energy)
            error, norm = error + lost, norm + total
        advance()
    return Combined(found, math.sqrt(error / norm) if norm else 0.0)
