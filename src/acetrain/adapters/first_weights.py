"""First weights of a LoRA that come from songs, by PEFT's own methods."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import EvaConfig, LoraConfig, LoraGAConfig, get_eva_state_dict
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from torch import Tensor, nn

from acetrain.adapters.initialisation import kept, taken_off
from acetrain.adapters.injection import NAME, adapter_layers
from acetrain.adapters.layers import to_fp32
from acetrain.adapters.regime import Objective, Regime
from acetrain.data.batch import Batch
from acetrain.keyed import seed_of
from acetrain.tracking.counted import counted
from acetrain.training.replicas import first_rank

Pass = Callable[[], Iterator[Tensor]]
"""The losses of the songs, one by one."""


class FirstWeights(Regime):
    """Looks at songs before the first step; they, their draws and the weights decide what comes out, on every rank."""

    def __init__(self, dit: nn.Module, init: str, songs: Sequence[Batch], from_base: bool) -> None:
        self.dit, self.init, self.songs, self.from_base = dit, init, songs, from_base

    def begin(self, module: nn.Module, objective: Objective) -> None:
        started = time.monotonic()
        start = {"eva": _eva, "corda": _corda, "lora_ga": _lora_ga}[self.init]
        with _aside(module), counted(f"adapter.init={self.init}", _looks(self.init, len(self.songs))) as advance:

            def losses() -> Iterator[Tensor]:
                for song in self.songs:
                    yield objective(song)
                    if first_rank():
                        advance()

            start(module, self._layers(module), losses)
        for layer in adapter_layers(self.dit).values():
            to_fp32(layer, NAME)
        if self.from_base:
            taken_off(self.dit)
        if first_rank():
            took = time.monotonic() - started
            print(f"adapter.init: {self.init} has looked at {len(self.songs)} songs in {took:.1f} s", flush=True)

    def _layers(self, module: nn.Module) -> dict[str, Any]:
        """The LoRA's layers by what their frozen part is called in `module`."""
        layers = adapter_layers(self.dit)
        bases = {id(layer.get_base_layer()): layer for layer in layers.values()}
        return {name: bases[id(part)] for name, part in module.named_modules() if id(part) in bases}


def _looks(init: str, songs: int) -> int:
    """How many songs a start runs through the model: eva compares what it has with what it had."""
    return max(2, songs) if init == "eva" else songs


@contextmanager
def _aside(module: nn.Module) -> Iterator[None]:
    """Within it the module may be looked at: not compiled, torch's random numbers fixed, its mode put back."""
    device = next(module.parameters()).device
    training = module.training
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(seed_of("first weights"))
        try:
            yield
        finally:
            module.train(training)


def _config(layers: dict[str, Any], **method: Any) -> LoraConfig:
    """PEFT's settings of a LoRA on the frozen parts, each with its rank."""
    ranks = {name: layer.r[NAME] for name, layer in layers.items()}
    return LoraConfig(r=max(ranks.values()), rank_pattern=ranks, target_modules=list(layers), **method)


class _Songs:
    """Stands for all songs as one batch of PEFT's, which wants to move it."""

    def to(self, device: torch.device) -> "_Songs":
        return self


def _eva(module: nn.Module, layers: dict[str, Any], losses: Pass) -> None:
    """A of the directions in which inputs vary most (`get_eva_state_dict`), ranks as they are.

    PEFT looks until directions stay; here each song is looked at once, so any likeness ends it. Ranks are the widest
    for all, as modules that see the same inputs share directions, and each takes as many as it has.
    """
    config = _config(layers, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0, whiten=False))
    config.rank_pattern = {}
    assert config.eva_config is not None
    config.eva_config.tau = -2.0
    passes = 0

    def look(module: nn.Module, songs: _Songs) -> None:
        nonlocal passes
        passes += 1
        found = losses()
        next(found)
        if passes > 1:
            for _ in found:
                pass

    directions = get_eva_state_dict(
        module,
        [_Songs()],
        config,
        forward_fn=look,
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=_rows,
        gather_distributed_inputs=False,
        show_progress_bar=False,
    )
    with torch.no_grad():
        for name, layer in layers.items():
            layer.lora_A[NAME].weight.copy_(directions[name][: layer.r[NAME]])


def _rows(inputs: tuple[Tensor, ...], songs: _Songs, name: str) -> Tensor:
    """A layer's inputs as rows."""
    return inputs[0].reshape(-1, inputs[0].shape[-1]).contiguous()


def _corda(module: nn.Module, layers: dict[str, Any], losses: Pass) -> None:
    """A and B of the largest singular vectors of W times the covariance of inputs (`preprocess_corda`, by `ipm`)."""
    config = _config(layers, init_lora_weights="corda", corda_config=CordaConfig(corda_method="ipm"))

    def look() -> None:
        for _ in losses():
            pass

    preprocess_corda(module, config, look)
    for layer in layers.values():
        with kept(layer):
            layer.corda_init(NAME, "corda_ipm")


def _lora_ga(module: nn.Module, layers: dict[str, Any], losses: Pass) -> None:
    """A and B of the singular vectors of the loss's gradient (`preprocess_loraga`, PEFT's direction and scale)."""
    config = _config(layers, init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    bases = [layer.get_base_layer() for layer in layers.values()]
    scale = _scale(bases[0].weight)

    def descend() -> None:
        for loss in losses():
            (scale * loss).backward()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # a first layer's inputs need no gradient
        preprocess_loraga(module, config, descend)
        while scale > 1 and not all(base._peft_loraga_grad.isfinite().all() for base in bases):
            scale /= 2
            preprocess_loraga(module, config, descend)
    for base, layer in zip(bases, layers.values(), strict=True):
        base._peft_loraga_grad = base._peft_loraga_grad.float() / scale
        with kept(layer):
            layer.lora_ga_init(NAME, config.lora_ga_config)


def _scale(weight: Tensor) -> float:
    """What losses are multiplied by so that gradients in fp16 do not vanish, at first what torch's `GradScaler` begins
    with; 1 in other formats."""
    device = weight.device.type
    computed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return 2.0**16 if torch.float16 in (weight.dtype, computed) else 1.0
