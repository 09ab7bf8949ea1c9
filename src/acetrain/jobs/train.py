"""`acetrain train`: an adapter from a cache of encoded songs."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain import __version__
from acetrain.acestep.model import Model
from acetrain.acestep.names import linear_layers
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.adapter import Adapter
from acetrain.adapters.targets import Targets
from acetrain.config import repeatable, resolved
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.foreign.encoding import refuse_unconverted, warning
from acetrain.data.option import Data
from acetrain.data.plan import Plan, held_out
from acetrain.errors import Failed, Interrupted, require
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.tracking.logger import LoggerOption
from acetrain.training import advice
from acetrain.training.optimizer import OptimizerOption
from acetrain.training.precision import Precision
from acetrain.training.run_folder import RunFolder, identity_of, signature_of
from acetrain.training.schedule import Schedule
from acetrain.training.trainer import TrainerOption

if TYPE_CHECKING:
    from acetrain.training.budget import Budget
    from acetrain.training.callbacks import Keeper
    from acetrain.training.module import FlowMatching


class Resume(Enum):
    """What to do with a folder that holds this run already."""

    auto = "auto"
    never = "never"


@dataclass
class Train:
    """Train an adapter on a cache of encoded songs."""

    name: str
    """Name of the run: its folder and its W&B run start with it."""
    cache: str
    """Folder that `acetrain preprocess` wrote."""
    out_dir: str
    """Folder of the run; empty for `runs/<name>-<signature>`. In a multirun, the folder that holds one such folder a
    job."""
    seed: int
    """Seed of everything that is drawn."""
    model: Model
    adapter: Adapter
    targets: Targets
    optimizer: OptimizerOption
    schedule: Schedule
    timesteps: Timesteps
    loss: Loss
    weighting: Weighting
    precision: Precision
    data: Data
    trainer: TrainerOption
    logger: LoggerOption
    condition_dropout: float
    """Share of song visits whose condition is replaced by the null condition, in [0, 1]; guidance needs it above 0."""
    songs_per_step: int
    """Songs whose mean loss one optimizer step descends."""
    max_steps: int | None
    """Optimizer steps to train; null lets `max_epochs` decide."""
    max_epochs: int
    """Passes over the songs, where `max_steps` is null."""
    resume: Resume
    """auto goes on with a run that `out_dir` holds; never refuses it."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, "name", "a word without '/'", self.name)
        require(0 <= self.condition_dropout <= 1, "condition_dropout", "in [0, 1]", self.condition_dropout)
        require(self.songs_per_step >= 1, "songs_per_step", "at least 1", self.songs_per_step)
        require(self.max_steps is None or self.max_steps >= 1, "max_steps", "at least 1, or null", self.max_steps)
        require(self.max_epochs >= 1, "max_epochs", "at least 1", self.max_epochs)

    def check(self) -> None:
        """Whether data, model, targets and folder go together; reads no weight and creates nothing."""
        layers = linear_layers(self.model.config("transformer"))
        self.adapter.check({name: layers[name] for name in self.target_names})
        self.songs.check_model(self.model)
        self.logger.check()
        steps = f"below the {self.total_steps} steps of the run"
        require(self.schedule.warmup < self.total_steps, "schedule.warmup", steps, self.schedule.warmup)
        self.optimizer.check(self.target_names, self.adapter)
        self.folder.check(may_resume=self.resume is Resume.auto)
        advice.say(advice.before(self))

    @cached_property
    def songs(self) -> Cache:
        """The cache, opened."""
        refuse_unconverted(self.cache, self.model)
        return Cache.open(self.cache)

    @cached_property
    def target_names(self) -> list[str]:
        """Modules of the DiT that are trained, in diffusers spelling."""
        return self.targets.select(linear_layers(self.model.config("transformer")))

    @cached_property
    def density(self) -> Timesteps:
        """The density of timesteps, with what it leaves to the checkpoint."""
        return self.timesteps.fitted(self.model.checkpoint.said_of_timesteps())

    @cached_property
    def split(self) -> tuple[list[CachedSong], list[CachedSong]]:
        """Songs to train on, and songs held out."""
        training, validation = held_out([song.name for song in self.songs.songs], self.data.validation)
        return [self.songs.songs[i] for i in training], [self.songs.songs[i] for i in validation]

    @cached_property
    def plan(self) -> Plan:
        """Which songs make up each optimizer step."""
        lengths, repeats = zip(*((song.frames, song.repeat) for song in self.split[0]), strict=True)
        return Plan(lengths, self.songs_per_step, self.data.repeats, self.seed, repeats)

    @property
    def total_steps(self) -> int:
        return self.max_steps or self.max_epochs * self.plan.steps_per_epoch

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder, named by its signature unless `out_dir` names it."""
        recipe = ("adapter", "optimizer", "schedule", "timesteps", "loss", "weighting")
        kinds = {group: type(getattr(self, group)).__name__ for group in recipe}
        weights = sample_weights(self.model.checkpoint, "transformer")
        adapter = resolved(self.adapter) | self.adapter.content()
        settings = resolved(self) | {"timesteps": resolved(self.density), "adapter": adapter}
        identity = identity_of(settings, kinds, self.songs.digest(), weights)
        default = Path("runs") / f"{self.name}-{signature_of(identity)}"
        return RunFolder(Path(self.out_dir) if self.out_dir else default, identity)

    def place(self, parent: str) -> None:
        """Put the run of a multirun below `parent`, in a folder of its own that a second start finds again."""
        self.out_dir = str(Path(parent) / f"{self.name}-{signature_of(self.folder.identity)}")
        del self.folder

    def run(self) -> None:
        """Train until the last step or a signal; what the folder already holds is not trained again."""
        from acetrain.acestep.conditions import template_digest
        from acetrain.acestep.load import check_base
        from acetrain.adapters.summary import announce
        from acetrain.training import checkpoint
        from acetrain.training.device import check_devices
        from acetrain.training.replicas import first_rank

        self.songs.check_template(template_digest())
        if first_rank():
            self.folder.check(may_resume=self.resume is Resume.auto)
        newest = max(checkpoint.written(self.folder.path), default=None)
        if newest is not None and checkpoint.step_of(newest) >= self.total_steps:
            if first_rank():
                self._finish(newest)
            return
        check_devices(self.trainer.accelerator, self.trainer.devices)
        if first_rank():
            check_base(self.model)
            self.folder.claim(repeatable(self))
            self._announce(None if newest is None else checkpoint.step_of(newest))
        module, keeper = self._assemble()
        if first_rank():
            announce(module.dit, len(linear_layers(self.model.config("transformer"))), self.folder.path)
        self._fit(module, keeper)
        if module.agreed_stop and module.step < self.total_steps:
            raise Interrupted(module.agreed_stop)
        if first_rank():
            print(f"adapter: {self.folder.path / 'adapter'}\nplot: {self.folder.path / 'loss.png'}")

    def _finish(self, newest: Path) -> None:
        """Say that nothing is left to train, after writing the adapter of the last step if a kill kept it from that."""
        from acetrain.adapters.files import peft
        from acetrain.training import checkpoint

        step, adapter = checkpoint.step_of(newest), self.folder.path / "adapter"
        if peft.written_step(adapter) != step:
            module, keeper = self._assemble()
            last, optimizer = checkpoint.read(newest), module.configure_optimizers()
            checkpoint.restore(last, module, keeper.identity)
            checkpoint.load_optimizer(optimizer, last.optimizer)
            with self.optimizer.evaluating(optimizer):
                keeper.save_adapter(adapter)
        print(f"nothing left to do: {self.folder.path} is at step {step} of {self.total_steps}")

    def _assemble(self) -> "tuple[FlowMatching, Keeper]":
        from acetrain.acestep.load import load_base
        from acetrain.training.callbacks import Every, Keeper
        from acetrain.training.module import FlowMatching, Recipe
        from acetrain.training.validation import Validation

        base = load_base(self.model, self.precision.base.dtype)
        self.adapter.attach(base.dit, self.target_names, self.seed)
        if self.trainer.gradient_checkpointing:
            base.dit.enable_gradient_checkpointing()
        recipe = Recipe(
            self.density,
            self.loss,
            self.weighting,
            self.optimizer,
            self.schedule,
            self.condition_dropout,
            self.trainer.clip,
            self.trainer.max_bad_steps,
            self.seed,
        )
        module = FlowMatching(base, recipe, self.total_steps).train()
        validation = Validation(self.songs, self.split[1], self.trainer.validation_quantiles, self._budget)
        identity = {
            "data": self.songs.digest(),
            "plan": self.plan.digest(),
            "settings": signature_of(self.folder.identity),
        }
        every = Every(self.trainer.checkpoint_every, self.trainer.validate_every, self.trainer.keep)
        keeper = Keeper(self.folder.path, identity, validation, self.plan.steps_per_epoch, every, self._saver(module))
        return module, keeper

    def _fit(self, module: "FlowMatching", keeper: "Keeper") -> None:
        import torch

        from acetrain.adapters.summary import summarised, trained_modules
        from acetrain.data.module import CachedSongs
        from acetrain.tracking.plots import plot_run
        from acetrain.training import checkpoint
        from acetrain.training.budget import too_large
        from acetrain.training.replicas import first_rank

        workers = self.data.workers
        data = CachedSongs(self.songs, self.split[0], self.plan, self._budget, workers, self.total_steps)
        name = f"{self.name}-{signature_of(self.folder.identity)}"
        start = checkpoint.newest_step(self.folder.path)
        config = resolved(self) | {"trained": summarised(trained_modules(module.dit), module.dit)}
        loggers = self.logger.open(self.folder.path, name, self.name, config, start) if first_rank() else []
        try:
            self.trainer.build(self.precision, loggers, keeper, self.folder.path).fit(module, data)
        except torch.OutOfMemoryError as error:
            frames = self._budget.settled
            raise Failed(too_large(module, f"a micro-batch of {frames} frames" if frames else "the model")) from error
        finally:
            if first_rank() and keeper.started:
                plot = plot_run(self.folder.path, keeper.histogram)
                self.logger.close(loggers, plot, keeper.histogram)

    @cached_property
    def _budget(self) -> "Budget":
        """Padded frames of a micro-batch, for training and validation."""
        from acetrain.training.budget import Budget, Extent
        from acetrain.training.remembered import Remembered

        frames = [song.frames for song in self.songs.songs]
        tokens = max(song.tokens for song in self.songs.songs)
        extent = Extent(max(frames), min(frames), tokens, self.songs_per_step)
        return Budget(self.data.budget, extent, Remembered(self.data.budgets))

    def _saver(self, module: "FlowMatching") -> "Callable[[Path], None]":
        """A function that writes the present adapter to a folder, with what it was trained on and how."""
        from acetrain.adapters.files import peft
        from acetrain.tracking.provenance import commit

        code = commit()

        def save(folder: Path) -> None:
            metadata = {
                "base": self.model.name,
                "step": str(module.step),
                "config": repeatable(self),
                "choices": json.dumps(self.choices, sort_keys=True),
                "data": self.songs.digest(),
                "acetrain": __version__,
                "commit": code,
            }
            peft.save(module.dit, folder, self.model.name, metadata)

        return save

    def _announce(self, resumed_step: int | None) -> None:
        """Say before the first step what will be trained, on what, for how long, and where."""
        training, validation = self.split
        seconds = sum(song.seconds for song in training)
        held = f"{len(validation)} held out" if validation else "none held out (fewer than 5, or data.validation=0)"
        print(f"run: {self.folder.path}")
        print(f"songs: {len(training)} ({seconds / 60:.1f} min), {held}")
        start = "" if resumed_step is None else f", going on from step {resumed_step}"
        print(f"steps: {self.total_steps}, {self.plan.steps_per_epoch} an epoch{start}", flush=True)
        if self.songs.fingerprint.is_foreign:
            print(warning(self.cache, self.model), file=sys.stderr, flush=True)
