"""A composed training put together of its parts, carried out, and brought to its end."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.loggers import Logger

from acetrain import __version__
from acetrain.acestep.load import Base
from acetrain.acestep.model import Released
from acetrain.adapters.files import saved
from acetrain.adapters.summary import summarised, trained_modules
from acetrain.config import repeatable
from acetrain.data.foreign.encoding import warning
from acetrain.data.lone import LoneSongs
from acetrain.data.module import CachedSongs
from acetrain.errors import OutOfMemory
from acetrain.flow.timesteps import native
from acetrain.tracking.logger import Ended, LoggerOption
from acetrain.tracking.plots import plot_run
from acetrain.tracking.provenance import commit
from acetrain.tracking.summary import summary_of
from acetrain.tracking.tracked import Tracked
from acetrain.training import advice, checkpoint, memory
from acetrain.training.budget import Budget, Extent, card_of, too_large
from acetrain.training.callbacks import Every, Keeper
from acetrain.training.device import device_of
from acetrain.training.module import FlowMatching, Recipe
from acetrain.training.remembered import Remembered
from acetrain.training.replicas import first_rank
from acetrain.training.run_folder import newest_step, signature_of, step_of
from acetrain.training.sampler import Sampler
from acetrain.training.shared_base import SharedBase, load_stored
from acetrain.training.validation import Validation

if TYPE_CHECKING:
    from acetrain.jobs.train import Train


def announce(run: "Train", resumed_step: int | None) -> None:
    """Say before the first step what will be trained, on what, for how long, and where."""
    training, validation = run.split
    seconds = sum(song.seconds for song in training)
    held = f"{len(validation)} held out" if validation else "none held out (fewer than 5, or data.validation=0)"
    print(f"run: {run.folder.path}")
    crop = f", {run.data.crop_seconds:g} s of each a visit" if run.data.crop_seconds else ""
    print(f"songs: {len(training)} ({seconds / 60:.1f} min){crop}, {held}")
    start = "" if resumed_step is None else f", going on from step {resumed_step}"
    print(f"steps: {run.total_steps}, {run.plan.steps_per_epoch} an epoch{start}", flush=True)
    if run.songs.fingerprint.is_foreign:
        print(warning(run.cache, run.model), file=sys.stderr, flush=True)


def assemble(run: "Train", sampler: Sampler | None, bases: SharedBase | None = None) -> tuple[FlowMatching, Keeper]:
    """The module that trains, on the CPU, and what happens around its steps, `sampler` included, which gets to see the
    base before anything is attached to it. The base is one of `bases` where they can be shared."""
    formats = run.formats
    base = _base(run, bases)
    if sampler is not None and first_rank():
        sampler.prepare(base.dit)
        base = base if bases is None else _base(run, bases)  # on a GPU the sampler's is no longer shared
    run.sized.attach(base.dit, run.target_names, run.seed)
    run.trainer.prepare(base.dit)
    recipe = Recipe(
        run.density,
        run.loss,
        run.weighting,
        run.optimizer,
        run.schedule,
        run.ema,
        run.condition_dropout,
        run.trainer.clip,
        run.trainer.max_bad_steps,
        run.seed,
    )
    songs = LoneSongs(run.songs, run.sized.looked_at(run.split[0]), run.seed)
    regime = run.sized.regime(base.dit, run.total_steps, songs)
    module = FlowMatching(base, recipe, run.total_steps, regime, scaler=formats.scaler(run.trainer.device)).train()
    validation = Validation(
        run.songs,
        run.split[1],
        run.trainer.validation_quantiles,
        native(run.model.checkpoint.said_of_timesteps()),
        _budget(run),
    )
    identity = {
        "data": run.songs.digest(),
        "plan": run.plan.digest(),
        "settings": signature_of(run.folder.identity),
        "precision": formats.name,
    }
    every = Every(run.trainer.checkpoint_every, run.trainer.validate_every, run.trainer.keep)
    keeper = Keeper(
        run.folder.path, identity, validation, run.plan.steps_per_epoch, every, _saver(run, module), sampler
    )
    return module, keeper


def _base(run: "Train", bases: SharedBase | None) -> Base:
    """The base to train on; several processes share none among their runs."""
    device = run.trainer.device
    if bases is not None and run.trainer.devices * run.trainer.nodes > 1:
        bases.clear()
        bases = None
    if bases is None:
        return load_stored(run.model, run.formats, device)
    worked_on = [""] if run.sized.beyond_layers else run.target_names
    return bases.take(run.model, run.weights, run.formats, device, worked_on if run.sized.reads_base else ())


def fit(run: "Train", module: FlowMatching, keeper: Keeper) -> None:
    """Train until the last step or a signal. Raises OutOfMemory where the memory does not hold the run."""
    budget = keeper.validation.budget
    data = CachedSongs(run.songs, run.split[0], run.plan, budget, run.data, run.total_steps)
    with tracked(run, module, keeper, run.logger) as loggers, within_memory(module, budget):
        run.trainer.build(run.formats, loggers, keeper, run.folder.path).fit(module, data)


@contextmanager
def tracked(run: "Train", module: FlowMatching, keeper: Keeper, option: LoggerOption) -> Iterator[list[Logger]]:
    """Within it the run's trackers are open; at its end they are told what describes the whole run."""
    trained, folder = summarised(trained_modules(module.dit), module.dit), run.folder.path
    if first_rank():
        advice.say(advice.noted(folder, _about_card(run)))
    loggers = option.open(_tracked(run, trained)) if first_rank() else []
    try:
        yield loggers
    finally:
        if first_rank() and keeper.started:
            summary = summary_of(folder, run.trainer.devices * run.trainer.nodes)
            plot = plot_run(folder, keeper.histogram)
            ended = Ended(plot, keeper.histogram, module.step, {"parameters": trained["parameters"], **summary})
            option.close(loggers, ended)


@contextmanager
def within_memory(module: FlowMatching, budget: Budget) -> Iterator[None]:
    """Within it a device that runs out of memory raises OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        frames = budget.settled
        what = f"a micro-batch of {frames} frames" if frames else "the model"
        raise OutOfMemory(too_large(module, what), frames) from error


def finish(run: "Train", newest: Path, bases: SharedBase | None = None) -> None:
    """Say that nothing is left to train, after writing what a kill kept the last step from writing."""
    step, folder = step_of(newest), run.folder.path
    if any(saved.written_step(folder / f"adapter{kind}") != step for kind in run.ema.kinds):
        module, keeper = assemble(run, None, bases)
        last, optimizer = checkpoint.read(newest), module.configure_optimizers()
        checkpoint.restore(last, module, keeper.identity)
        checkpoint.load_optimizer(optimizer, last.optimizer)
        for kind, weights in module.judged(optimizer).items():
            with weights:
                keeper.save_adapter(folder / f"adapter{kind}")
    print(f"nothing left to do: {folder} is at step {step} of {run.total_steps}")


def _tracked(run: "Train", trained: Mapping[str, Any]) -> Tracked:
    card = card_of(device_of(run.trainer.accelerator))
    device = {"name": "cpu" if card is None else card[0], "count": run.trainer.devices * run.trainer.nodes}
    return Tracked.of(run, newest_step(run.folder.path), {"trained": trained, "device": device})


def _budget(run: "Train") -> Budget:
    """Padded frames of a micro-batch, for training and validation."""
    frames = [run.data.frames(song) for song in run.songs.songs]
    tokens = max(song.most_tokens for song in run.songs.songs)
    extent = Extent(max(frames), min(frames), tokens, run.songs_per_step)
    return Budget(run.data.budget, extent, Remembered(run.data.budgets))


def _about_card(run: "Train") -> list[str]:
    """What there is to say of a given frame budget on the card, for a model as released."""
    card, frames = card_of(device_of(run.trainer.accelerator)), run.data.budget
    if card is None or frames is None or not isinstance(run.model, Released):
        return []
    songs = min(run.songs_per_step, frames // memory.longest(run).frames)
    usual = advice.batch_on_card(songs, card, run.data.max_frames)
    return [line for line in (usual, memory.too_much(run, card)) if line]


def _saver(run: "Train", module: FlowMatching) -> Callable[[Path], None]:
    """A function that writes the present adapter to a folder, with what it was trained on and how."""
    code = commit()

    def save(folder: Path) -> None:
        metadata = {
            "base": run.model.name,
            "step": str(module.step),
            "config": repeatable(run),
            "choices": json.dumps(run.choices, sort_keys=True),
            "data": run.songs.digest(),
            "acetrain": __version__,
            "commit": code,
        }
        run.sized.save(module.dit, folder, run.model.name, metadata)

    return save
