"""Caches of random songs and modules over the tiny base: what a test of training needs, without preprocessing."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from acetrain.acestep.conditions import template_digest
from acetrain.acestep.load import Base, load_base
from acetrain.acestep.model import Model, Tiny
from acetrain.acestep.names import linear_layers, official
from acetrain.acestep.weights import hash_weights, stamps
from acetrain.adapters.lora import Init, LoRA
from acetrain.adapters.regime import Regime
from acetrain.adapters.targets import Targets
from acetrain.data.cache import CachedSong, Fingerprint
from acetrain.data.store import Store, path_of
from acetrain.flow.loss import Loss, Mse, Reduction
from acetrain.flow.timesteps import Acestep
from acetrain.flow.weighting import Unweighted, Weighting
from acetrain.training.ema import EmaOption, NoEma
from acetrain.training.module import FlowMatching, Recipe
from acetrain.training.optimizer import AdamW
from acetrain.training.schedule import Constant

MODEL = Tiny(variant="tiny", path="", steps=8, shift=1.0, guidance=1.0)
CHANNELS = MODEL.config("transformer")["audio_acoustic_hidden_dim"]
RATE = MODEL.config("vae")["sampling_rate"]
FRAME = math.prod(MODEL.config("vae")["downsampling_ratios"])
FRAME_RATE = RATE / FRAME
WIDTH = MODEL.config("condition_encoder")["hidden_size"]

ACESTEP = Acestep(shift=1.0, low=0.0, high=1.0, stratified=False, mean=-0.4, std=1.0)
MSE, UNWEIGHTED, NO_EMA = Mse(Reduction.song), Unweighted(), NoEma()


def song(frames: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random latents and condition."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(frames, CHANNELS, generator=draw), torch.randn(tokens, WIDTH, generator=draw)


def base() -> Base:
    """The tiny base in fp32."""
    return load_base(MODEL, torch.float32)


def attached(dropout: float = 0.0, rank: int = 4, include: tuple[str, ...] = ("self_attn", "cross_attn")) -> Base:
    """The tiny base with a LoRA whose B is no longer zero."""
    loaded = base()
    names = Targets(list(include), []).select(linear_layers(MODEL.config("transformer")))
    LoRA(rank, 2.0 * rank, dropout, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        loaded.dit, names, seed=0
    )
    draw = torch.Generator().manual_seed(1)
    for name, parameter in loaded.dit.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=draw)
    return loaded


def official_module() -> nn.Module:
    """A bare module tree with the official names and shapes, holding the base's weights."""
    root, weights = nn.Module(), dict(base().dit.named_parameters())
    for name, (outputs, inputs) in linear_layers(MODEL.config("transformer")).items():
        parent, parts = root, official(name).split(".")
        for part in parts[:-1]:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        linear = nn.Linear(inputs, outputs, bias=False)
        linear.weight.data = weights[f"{name}.weight"].data
        parent.add_module(parts[-1], linear)
    return root


def module(
    loaded: Base,
    condition_dropout: float = 0.15,
    total_steps: int = 10,
    loss: Loss = MSE,
    weighting: Weighting = UNWEIGHTED,
    ema: EmaOption = NO_EMA,
    regime: Regime | None = None,
) -> FlowMatching:
    """A training module over `loaded`."""
    adamw = AdamW(1e-3, 0.01, {}, {}, beta1=0.9, beta2=0.999, eps=1e-8)
    recipe = Recipe(ACESTEP, loss, weighting, adamw, Constant(0, 0.0), ema, condition_dropout, 1.0, 3, 0)
    return FlowMatching(loaded, recipe, total_steps, regime).train()


def cache(
    folder: Path,
    songs: int,
    loudness: Mapping[int, float] = MappingProxyType({}),
    template: str = template_digest(),
    model: Model = MODEL,
) -> Path:
    """Write a cache of `songs` random songs, 100 to 220 frames each, as if encoded by `model`, which has tiny's shapes.

    `loudness` multiplies the latents of single songs; `template` is the digest of the prompt template.
    """
    fingerprint = Fingerprint(
        variant=model.name,
        weights=hash_weights(model.checkpoint),
        weights_files=stamps(model.checkpoint),
        template=template,
        timbre="silence",
        precision="fp32",
        seed=0,
        latent_channels=CHANNELS,
        condition_width=WIDTH,
        frame_rate=FRAME_RATE,
        sample_rate=RATE,
    )
    store = Store(folder, fingerprint)
    rows = []
    for index in range(songs):
        latents, condition = song(100 + 53 * index % 121, 40 + 17 * index % 41, seed=index)
        latents *= loudness.get(index, 1.0)
        name = f"song{index}.wav"
        lengths = len(latents), len(condition), len(latents) / FRAME_RATE
        row = CachedSong(name, path_of(name), *lengths, audio=f"{index}" * 64, text="0" * 64)
        store.add(row, latents, condition)
        rows.append(row)
    store.finish(rows)
    return folder


def files(folder: Path, contents: Mapping[str, str]) -> Path:
    """The folder with files of these names and texts in it."""
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
