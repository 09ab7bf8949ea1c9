"""What a saved adapter holds, tensor by tensor, so that another format can hold the same."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.adapters import formulas
from acetrain.adapters.files import lycoris, peft
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.spelling import told
from acetrain.adapters.low_rank import LowRank
from acetrain.adapters.updates import Updates, peft_size, read_finite
from acetrain.analysis.truncate import decompose, truncations
from acetrain.errors import Refused


@dataclass(frozen=True)
class Pair:
    """alpha/rank B A of one module."""

    a: Tensor
    """[rank, input, *kernel]."""
    b: Tensor
    """[output, rank, *1]."""
    alpha: float

    @property
    def rank(self) -> int:
        """Columns of B."""
        return self.b.shape[1]


Pairs = Mapping[str, Pair]
"""By diffusers name of the module."""
Products = Mapping[str, Mapping[str, Tensor]]
"""Diffusers name of the module -> LyCORIS' name of a part, alpha among them -> tensor."""


def pairs_of(files: AdapterFiles) -> Pairs:
    """A LoRA's or an AdaLoRA's factors as they are stored, E of P E Q taken into P.

    The alpha of a rank-stabilised LoRA is the one that gives its strength without it.
    """
    config, found = peft.config_of(files), {}
    for name, parts in _parts(files).items():
        rank, strength = peft_size(config, files.kind, official(name))
        if files.kind == "ADALORA":
            a, b = parts["lora_A"], parts["lora_B"] * parts["lora_E"].flatten()
            if len(a):
                found[name] = Pair(a, b, strength * len(a))
            continue
        alpha = float(peft.resolved(config, "alpha_pattern", "lora_alpha", official(name)))
        alpha *= math.sqrt(rank) if config.get("use_rslora") else 1.0
        found[name] = Pair(parts["lora_A.weight"], parts["lora_B.weight"], alpha)
    if not found:
        raise Refused(f"adapter_path: {files.weights} changes nothing: no module has a rank left")
    return found


def products_of(files: AdapterFiles) -> Products:
    """A LyCORIS file's parts as they are stored, or PEFT's LoHa or LoKr as LyCORIS would store it."""
    if files.kind.endswith("LyCORIS"):
        return _parts(files)
    config, found = peft.config_of(files), {}
    for name, parts in _parts(files).items():
        _, strength = peft_size(config, files.kind, official(name))
        rank = formulas.lycoris_rank(parts)
        if rank is None:  # LyCORIS gives two whole factors no strength
            parts = {**parts, "lokr_w2": _times(parts["lokr_w2"], strength)}
        found[name] = {**parts, "alpha": torch.tensor(1.0 if rank is None else strength * rank)}
    return found


def _times(factor: Tensor, strength: float) -> Tensor:
    """A factor times a number, in its own format where that holds the product, else in fp32."""
    product = factor.double() * strength
    kept = product.to(factor.dtype)
    return kept if torch.equal(kept.double(), product) else product.float()


def as_products(pairs: Pairs) -> Products:
    """A LoRA as LyCORIS' LoCon."""
    return {
        name: {"lora_down.weight": pair.a, "lora_up.weight": pair.b, "alpha": torch.tensor(pair.alpha)}
        for name, pair in pairs.items()
    }


def nearest_lora(update: LowRank, rank: int | None, energy: float | None) -> tuple[LowRank, float, float]:
    """The best update of at most `rank`, or of the least rank that keeps this share of the squared singular values;
    its squared distance, and the squared norm of the whole."""
    whole = decompose(update)
    squares = whole.s.square()
    total = squares.sum().item()
    kept = whole.rank if rank is None else min(rank, whole.rank)
    if energy is not None:
        kept = min(kept, int((squares.cumsum(0) < energy * total).sum()) + 1)
    return truncations(whole).at(kept).factors(), squares[kept:].sum().item(), total


def truncated(updates: Updates, rank: int, advance: Callable[[], None]) -> tuple[Pairs, float]:
    """The nearest LoRA of at most this rank in every module, and how far it is: |dW - dW'| / |dW| over all of them.

    `advance` is called after each module.
    """
    found, error, norm = {}, 0.0, 0.0
    for name in updates.names:
        cut, lost, total = nearest_lora(updates[name], rank, None)
        a, b = cut.a.reshape(cut.rank, -1, *cut.kernel), cut.b.reshape(*cut.b.shape, *(1 for _ in cut.kernel))
        found[name] = Pair(a.float(), b.float(), float(cut.rank))
        error, norm = error + lost, norm + total
        advance()
    return found, math.sqrt(error / norm) if norm else 0.0


def _parts(files: AdapterFiles) -> dict[str, dict[str, Tensor]]:
    """Diffusers name of the module -> part as it is named here -> tensor."""
    found: dict[str, dict[str, Tensor]] = {}
    for filed, tensor in read_finite(files).items():
        if files.kind.endswith("LyCORIS"):
            key, _, part = filed.partition(".")
            module = lycoris.module_of(key)
        else:
            named = told(filed)
            assert named is not None, filed
            module, part = named
        found.setdefault(module, {})[part] = tensor
    return found
