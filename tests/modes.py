"""One training step computed in several ways, and how far they may lie apart: the same on a CPU and on a GPU."""

from dataclasses import dataclass

import torch
from fabricate import MODEL, base, module, song
from torch import Tensor

from acetrain.acestep.names import linear_layers
from acetrain.adapters.injection import trainable
from acetrain.adapters.lora import Init, LoRA
from acetrain.adapters.targets import Targets
from acetrain.data.batch import collate
from acetrain.training.draws import draw
from acetrain.training.module import FlowMatching
from acetrain.training.precision import Format, Precision, Quantised

PRECISIONS = {
    "fp32": Precision(Format.fp32, Format.fp32, Quantised.none),
    "bf16": Precision(Format.bf16, Format.bf16, Quantised.none),
    "fp16": Precision(Format.fp16, Format.fp16, Quantised.none),
    "int8": Precision(Format.fp32, Format.fp32, Quantised.int8),
    "nf4": Precision(Format.fp32, Format.fp32, Quantised.nf4),
    "nf4_bf16": Precision(Format.bf16, Format.bf16, Quantised.nf4),
    "auto": Precision(Format.auto, Format.auto, Quantised.none),
}
LOSS = {"fp32": 1e-6, "bf16": 0.02, "fp16": 0.005, "int8": 0.02, "nf4": 0.3, "nf4_bf16": 0.3, "auto": 0.02}
"""Largest relative distance of a song's loss from fp32 on a CPU."""
COSINE = {"fp32": 0.99999, "bf16": 0.99, "fp16": 0.999, "int8": 0.99, "nf4": 0.8, "nf4_bf16": 0.8, "auto": 0.99}
"""Smallest cosine between the step's gradient and that of fp32 on a CPU."""
COMPILED = 1e-4
"""Largest relative distance of losses and gradients between compiled blocks and others, in fp32."""
SONGS = [song(frames, tokens, seed=frames) for frames, tokens in ((91, 20), (60, 12), (60, 12))]
GROUPS = ((0, 1), (1, 2))
"""A micro-batch with padding, and one without."""


@dataclass(frozen=True)
class Stepped:
    """What a step over `GROUPS` came to, on the CPU."""

    losses: Tensor
    gradient: Tensor
    kept: int
    """Bytes that the backward pass of the first group was left."""


def ready(device: torch.device, precision: Precision = PRECISIONS["fp32"]) -> FlowMatching:
    """A module on its device, its base stored as the precision says, with a LoRA whose B is no longer zero."""
    loaded, formats = base(), precision.on(device)
    torch.nn.Module.to(loaded.dit, formats.base.dtype)
    formats.store(loaded.dit)
    names = Targets(["self_attn", "cross_attn", "mlp"], []).select(linear_layers(MODEL.config("transformer")))
    lora = LoRA(4, 8.0, 0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="")
    lora.attach(loaded.dit, names, seed=0)
    drawn = torch.Generator().manual_seed(1)
    for name, parameter in trainable(loaded.dit).items():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=drawn)
    training = module(loaded).to(device)
    training.scaler = formats.scaler(device)
    return training


def stepped(training: FlowMatching, precision: Precision = PRECISIONS["fp32"]) -> Stepped:
    """Take the step's gradients; they are left on the module, unscaled, and returned."""
    device = training.device
    losses, kept = [], []
    for group in GROUPS:
        batch = collate([SONGS[i] for i in group], [(0, 0, f"{i}.wav", 0) for i in group], 0.25).to(device)
        sizes: dict[int, int] = {}
        with precision.on(device).autocast(device), torch.autograd.graph.saved_tensors_hooks(_noted(sizes), _same):
            found = training.song_losses(batch, draw(batch, training.recipe.timesteps, 0.0))
        training.scaler.scale((found * batch.weight).sum()).backward()
        losses.append(found.detach().cpu())
        kept.append(sum(sizes.values()))
    parameters = list(trainable(training.dit).values())
    scale = training.scaler.get_scale()
    gradient = torch.cat([parameter.grad.flatten().cpu() for parameter in parameters if parameter.grad is not None])
    return Stepped(torch.cat(losses), gradient / scale, kept[0])


def _noted(sizes: dict[int, int]):
    """A hook that notes the size of each storage that autograd keeps."""

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    return note


def _same(tensor: Tensor) -> Tensor:
    return tensor


def assert_near(found: Stepped, expected: Stepped, loss: float, cosine: float) -> None:
    """Losses within a relative distance, gradients within an angle."""
    assert ((found.losses - expected.losses).abs() / expected.losses).max() < loss
    assert torch.nn.functional.cosine_similarity(found.gradient, expected.gradient, dim=0) > cosine


def assert_equal_to(found: Stepped, expected: Stepped, tolerance: float) -> None:
    """Losses and gradient within a relative distance."""
    assert ((found.losses - expected.losses).abs() / expected.losses).max() <= tolerance
    assert (found.gradient - expected.gradient).norm() <= tolerance * expected.gradient.norm()
