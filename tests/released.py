"""The released shapes of the DiT, and the memory of a step on them, measured without computing it.

Tensors are fake: they have a shape, a format and a size, and no content. So a step of the 2B model takes seconds on any
machine, and what it would have had alive at once is counted storage by storage.
"""

import gc
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acetrain.acestep.dit import MaskedDiT
from acetrain.training.memory import Batch, Training
from acetrain.training.precision import Format

DEFAULTS = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "in_channels": 192,
    "audio_acoustic_hidden_dim": 64,
    "patch_size": 2,
    "encoder_hidden_size": 2048,
}
XL = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 32, "num_attention_heads": 32}
RELEASED: Mapping[str, Mapping[str, Any]] = {"2b": DEFAULTS, "xl": DEFAULTS | XL}


class Alive(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and the most of them at once."""

    def __init__(self, there: int) -> None:
        super().__init__()
        self.now = self.peak = there
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.note(tensor.untyped_storage())
        return made

    def known(self, tensor: Tensor) -> None:
        """Count this tensor as there before."""
        self.sizes[tensor.untyped_storage()._cdata] = 0

    def note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.sizes:
            return
        self.sizes[key] = size
        self.now += size
        weakref.finalize(storage, self.gone, key, size)
        if self.now > 1.05 * self.peak:
            gc.collect()
        self.peak = max(self.peak, self.now)

    def gone(self, key: int, size: int) -> None:
        if self.sizes.pop(key, None) is not None:
            self.now -= size


def peak(training: Training, batch: Batch, fake: bool = True) -> int:
    """Bytes alive at the worst moment of two micro-batches' backward passes: weights, gradients, activations.

    With tensors that are not `fake` the steps are computed.
    """
    formats = training.precision
    with torch.device("meta"):
        torch.set_default_dtype(formats.base.dtype)
        try:
            dit = MaskedDiT(**training.config).requires_grad_(False)
        finally:
            torch.set_default_dtype(torch.float32)
    training.adapter.attach(dit, list(training.targets), seed=0)
    gc.collect()
    gc.freeze()  # or looking for what can go takes longer than the step
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext():
        _made(dit)
        dit.recompute(training.recomputed)
        dit.train()
        alive = Alive(sum(weight.nbytes for weight in dit.parameters()))
        for weight in dit.parameters():
            alive.known(weight)
        with alive:
            for _ in range(2):
                _step(dit, training, batch, formats.compute)
    gc.unfreeze()
    return alive.peak


def _made(dit: nn.Module) -> None:
    """Give the model's weights a place on the CPU."""
    for module in dit.modules():
        for name, weight in module.named_parameters(recurse=False):
            made = torch.ones(weight.shape, dtype=weight.dtype)
            module._parameters[name] = nn.Parameter(made, requires_grad=weight.requires_grad)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.ones(buffer.shape, dtype=buffer.dtype)


def _step(dit: MaskedDiT, training: Training, batch: Batch, compute: Format) -> None:
    channels, width = training.config["audio_acoustic_hidden_dim"], training.config["encoder_hidden_size"]
    x_t, context = (torch.randn(batch.songs, batch.frames, size) for size in (channels, 2 * channels))
    condition = torch.randn(batch.songs, batch.tokens, width)
    frames = [batch.frames] + [batch.frames - 1] * (batch.songs - 1)
    tokens = [batch.tokens] + [batch.tokens - 1] * (batch.songs - 1)
    with torch.autocast("cpu", compute.dtype, enabled=compute is not Format.fp32, cache_enabled=False):
        velocity = dit.velocity(x_t, torch.rand(batch.songs), condition, context, frames, tokens)
    (velocity.float() - x_t).square().mean().backward()
