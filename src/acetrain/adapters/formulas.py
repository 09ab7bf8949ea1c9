"""What each type of adapter adds to a weight, from the tensors of its file alone.

Types whose update follows from the base's weights too (DoRA, OFT, BOFT, (IA)³, full weights), or from their sizes
(VeRA), have no formula here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from acetrain.adapters.low_rank import LowRank, dense_update, hadamard, kronecker

Parts = Mapping[str, Tensor]
"""Tensors of a module by the end of their names."""
ADALORA_EPS = 1e-5
"""What PEFT adds to the rank that it divides an AdaLoRA's strength by."""


def product(up: Tensor, down: Tensor) -> LowRank:
    """B A of a linear layer or, with A [rank, input, *kernel], of a convolution."""
    return LowRank(up.flatten(1), down.flatten(1), tuple(down.shape[2:]))


def lora(parts: Parts) -> LowRank:
    """B A as PEFT names them."""
    return product(parts["lora_B.weight"], parts["lora_A.weight"])


def adalora(parts: Parts) -> LowRank:
    """P E Q, E diagonal (Zhang et al. 2023)."""
    return LowRank(parts["lora_B"] * parts["lora_E"].flatten(), parts["lora_A"])


def locon(parts: Parts) -> LowRank:
    """B A as LyCORIS names them."""
    _refuse_tucker(parts, "lora_mid.weight")
    return product(parts["lora_up.weight"], parts["lora_down.weight"])


def loha(parts: Parts) -> LowRank:
    """(B1 A1) ∘ (B2 A2) (Hyeon-Woo et al. 2021), in PEFT and LyCORIS alike."""
    _refuse_tucker(parts, "hada_t1")
    first, second = (product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in (1, 2))
    return hadamard(first, second)


def lokr(parts: Parts) -> LowRank:
    """C ⊗ M, each whole or B A (Yeh et al. 2023), in PEFT and LyCORIS alike."""
    _refuse_tucker(parts, "lokr_t2")
    return kronecker(_lokr_factor(parts, 1), _lokr_factor(parts, 2))


def lycoris_rank(parts: Parts) -> int | None:
    """The rank that LyCORIS reads from the shapes; None where a LoKr has no factors left."""
    ranked = ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
    return next((parts[name].shape[0] for name in ranked if name in parts), None)


def lycoris_strength(parts: Parts) -> float:
    """alpha over the rank; 1 where there is none."""
    rank = lycoris_rank(parts)
    alpha = float(parts["alpha"]) if "alpha" in parts else 0.0
    return 1.0 if rank is None or alpha == 0 else alpha / rank


PEFT: Mapping[str, Callable[[Any], LowRank]] = {"LORA": lora, "ADALORA": adalora, "LOHA": loha, "LOKR": lokr}
"""PEFT type -> what it adds before its strength."""


def lycoris(parts: Parts) -> LowRank:
    """What a module of a LyCORIS file adds. Raises KeyError where it is of no algorithm that is known."""
    kinds = {"lora_up.weight": locon, "hada_w1_a": loha, "lokr_w1": lokr, "lokr_w1_a": lokr}
    kind = next((kinds[name] for name in kinds if name in parts), None)
    if kind is None:
        raise KeyError(f"no algorithm that is read here has {', '.join(sorted(parts))}")
    return kind(parts).times(lycoris_strength(parts))


def _lokr_factor(parts: Parts, which: int) -> LowRank:
    whole = parts.get(f"lokr_w{which}")
    if whole is not None:
        return dense_update(whole)
    return product(parts[f"lokr_w{which}_a"], parts[f"lokr_w{which}_b"])


def _refuse_tucker(parts: Parts, name: str) -> None:
    if name in parts:
        raise KeyError(f"{name} is there: Tucker decompositions are not read")
