"""What a run needs to go on: adapter, optimizer and position. Nothing of the base."""

import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from acetrain.adapters.injection import adapter_state, load_adapter_state
from acetrain.atomic import replacing
from acetrain.errors import Failed
from acetrain.training.module import FlowMatching
from acetrain.training.run_folder import written
from acetrain.training.schedule import Horizon

FORMAT = 3


@dataclass(frozen=True)
class Checkpoint:
    """A run's state after `step` optimizer steps, in plain containers and tensors."""

    step: int
    identity: dict[str, str]
    """What the checkpoint belongs to (data, plan, recipe): name -> fingerprint."""
    adapter: dict[str, Tensor]
    average: dict[str, Tensor]
    """The adapter's running average and how many states are in it; empty where none is kept."""
    optimizer: dict[str, Any]
    horizon: dict[str, Any]
    bad_steps: int
    running: Tensor
    """Losses by bin of the density of timesteps; no bin where it follows none."""
    progress: dict[str, Any]
    """State of the callbacks that keep one: best validation, histogram."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """What losses are scaled by in fp16, and since when; empty without fp16."""
    regime: dict[str, Any] = field(default_factory=dict)
    """What the adapter keeps beside its weights (`Regime.state`)."""
    format: int = FORMAT


def capture(module: FlowMatching, identity: dict[str, str], progress: dict[str, Any]) -> Checkpoint:
    """The state of `module` between two steps."""
    return Checkpoint(
        step=module.step,
        identity=identity,
        adapter=adapter_state(module.dit),
        average={} if module.average is None else module.average.state(),
        optimizer=module.optimizer.optimizer.state_dict(),
        horizon=asdict(module.horizon),
        bad_steps=module.bad_steps,
        running=module.running,
        progress=progress,
        scaler=module.scaler.state_dict(),
        regime=module.regime.state(),
    )


def restore(checkpoint: Checkpoint, module: FlowMatching, identity: dict[str, str]) -> None:
    """Put adapter and position back; the optimizer's state follows when Lightning has built it.

    Raises Failed, naming what differs, if the checkpoint belongs to other data, another plan or another adapter.
    """
    differing = [name for name, value in identity.items() if checkpoint.identity.get(name) != value]
    if differing:
        raise Failed(
            f"resume: the checkpoint at step {checkpoint.step} was written with other {' and '.join(differing)}"
        )
    try:
        load_adapter_state(module.dit, checkpoint.adapter)
        module.regime.load(checkpoint.regime)
        if module.average is not None:
            module.average.load(checkpoint.average)
    except ValueError as error:
        raise Failed(f"resume: the checkpoint at step {checkpoint.step} holds another adapter: {error}") from error
    if module.scaler.is_enabled():
        module.scaler.load_state_dict(checkpoint.scaler)
    total = module.horizon.total
    module.horizon = Horizon(**checkpoint.horizon).extended(module.recipe.schedule, checkpoint.step, total)
    module.step, module.bad_steps = checkpoint.step, checkpoint.bad_steps
    module.running = checkpoint.running


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Put an optimizer's state back, every tensor in the format it was saved in; torch casts it to its weight's."""
    optimizer.load_state_dict(state)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for weight, number in zip(weights, numbers, strict=True):
        for name, saved in state["state"].get(number, {}).items():
            loaded = optimizer.state[weight].get(name)
            if isinstance(saved, Tensor) and loaded.dtype is not saved.dtype:
                optimizer.state[weight][name] = saved.to(loaded.device)


def write(checkpoint: Checkpoint, folder: Path, keep: int) -> Path:
    """Write the checkpoint atomically and drop all but the newest `keep`."""
    path = folder / f"step-{checkpoint.step:08d}.ckpt"
    with replacing(path) as temporary:
        torch.save(vars(checkpoint), temporary)
    for old in written(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed. Raises Failed if it is not whole."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known = content["format"] == FORMAT
        checkpoint = Checkpoint(**content) if known else None
    except (OSError, RuntimeError, EOFError, TypeError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Failed(
            f"resume: {path} cannot be read ({reason}); remove it to go on from the one before, if there is one"
        ) from error
    if checkpoint is None:
        raise Failed(f"resume: {path} has format {content['format']}, this version reads {FORMAT}")
    return checkpoint
