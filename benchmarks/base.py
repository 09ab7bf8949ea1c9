"""The bases that are timed: the tiny one with its weights, or a released shape with random ones."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import Base, load_base
from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers
from acetrain.adapters.lora import Init, LoRA
from acetrain.adapters.targets import Targets
from acetrain.flow.loss import Mse, Reduction
from acetrain.flow.timesteps import Acestep
from acetrain.flow.weighting import Unweighted
from acetrain.training.ema import NoEma
from acetrain.training.module import FlowMatching, Recipe
from acetrain.training.optimizer import AdamW
from acetrain.training.schedule import Constant

TINY = Tiny(variant="tiny", path="", steps=1, shift=1.0, guidance=1.0)
SHAPES = {
    "2b": {},
    "xl": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "encoder_hidden_size": 2048,
    },
}
"""Released shapes, as they differ from diffusers' defaults."""


def frame_rate(model: str) -> float:
    """Latent frames a second."""
    if model != "tiny":
        return 25.0
    vae = TINY.config("vae")
    return vae["sampling_rate"] / math.prod(vae["downsampling_ratios"])


def base_of(model: str, dtype: torch.dtype, device: torch.device) -> Base:
    """The base on its device; a released shape is made there, not carried there."""
    if model == "tiny":
        return load_base(TINY, dtype)
    torch.manual_seed(0)
    with torch.device(device), _default(dtype):
        dit = MaskedDiT(**SHAPES[model]).requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    return Base(dit, torch.randn(2048, generator=draw), torch.randn(15000, 64, generator=draw))


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def module_of(base: Base, rank: int, checkpointing: bool) -> FlowMatching:
    """What a run trains: LoRA on self- and cross-attention with AdamW, alpha twice the rank."""
    names = Targets(["self_attn", "cross_attn"], []).select(linear_layers(base.dit.config))
    LoRA(rank, 2.0 * rank, 0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        base.dit, names, seed=0
    )
    base.dit.recompute(1 if checkpointing else 0)
    adamw = AdamW(1e-4, 0.01, {}, {}, beta1=0.9, beta2=0.999, eps=1e-8)
    density = Acestep(shift=1.0, low=0.0, high=1.0, stratified=False, mean=None, std=None)
    recipe = Recipe(density, Mse(Reduction.song), Unweighted(), adamw, Constant(0, 0.0), NoEma(), 0.15, 1.0, 10**9, 0)
    return FlowMatching(base, recipe, total_steps=10**6).train()
