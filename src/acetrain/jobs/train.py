"""`acetrain train`: an adapter from a cache of encoded songs."""

from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain.acestep.model import Model
from acetrain.acestep.names import linear_layers
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.adapter import Adapter, Shapes
from acetrain.adapters.targets import Targets
from acetrain.config import repeatable, resolved
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.foreign.encoding import refuse_unconverted
from acetrain.data.option import Data
from acetrain.data.plan import Plan, held_out
from acetrain.errors import Interrupted, require
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.tracking.logger import LoggerOption
from acetrain.training import advice
from acetrain.training.ema import EmaOption
from acetrain.training.ending import Judge
from acetrain.training.optimizer import OptimizerOption
from acetrain.training.precision import Precision
from acetrain.training.run_folder import RunFolder, identity_of, newest_step, step_of, written
from acetrain.training.samples import SamplesOption
from acetrain.training.schedule import Schedule
from acetrain.training.trainer import TrainerOption

if TYPE_CHECKING:
    from acetrain.training.callbacks import Keeper
    from acetrain.training.module import FlowMatching
    from acetrain.training.shared_base import SharedBase


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
    ema: EmaOption
    timesteps: Timesteps
    loss: Loss
    weighting: Weighting
    precision: Precision
    data: Data
    trainer: TrainerOption
    samples: SamplesOption
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
    sweep: ClassVar[str] = ""
    """The sweep that the run belongs to; a tracker's group of runs, and no part of what the run is."""
    judge: ClassVar[Judge | None] = None
    """What may end the run early, where it is a trial of a search."""
    pruned: ClassVar[bool] = False
    """Whether it has been ended early."""

    def __post_init__(self) -> None:
        is_word = self.name not in ("", ".", "..") and "/" not in self.name
        require(is_word, "name", "a word without '/'", self.name)
        require(0 <= self.condition_dropout <= 1, "condition_dropout", "in [0, 1]", self.condition_dropout)
        require(self.songs_per_step >= 1, "songs_per_step", "at least 1", self.songs_per_step)
        require(self.max_steps is None or self.max_steps >= 1, "max_steps", "at least 1, or null", self.max_steps)
        require(self.max_epochs >= 1, "max_epochs", "at least 1", self.max_epochs)

    def check(self) -> None:
        """Whether data, model, targets and folder go together; reads no weight and creates nothing."""
        self.sized.check({name: self.layers[name] for name in self.target_names})
        self.precision.check_adapter(self.adapter.reads_base)
        self.songs.check_model(self.model)
        self.targets.check(self.measured_elsewhere)
        self.sized.check_songs(self.split[0], self.trainer.shard)
        self.data.check(self.songs)
        self.logger.check()
        steps = f"below the {self.total_steps} steps of the run"
        require(self.schedule.warmup < self.total_steps, "schedule.warmup", steps, self.schedule.warmup)
        self.optimizer.check(self.target_names, self.adapter)
        self.ema.check(self.optimizer, self.total_steps)
        self.trainer.check(self.precision, self.data)
        self.samples.check(self.trainer.shard)
        self.folder.check(may_resume=self.resume is Resume.auto)

    @cached_property
    def songs(self) -> Cache:
        """The cache, opened."""
        refuse_unconverted(self.cache, self.model)
        return Cache.open(self.cache)

    @cached_property
    def target_names(self) -> list[str]:
        """Modules of the DiT that are trained, in diffusers spelling."""
        return self.targets.select(self.layers)

    @cached_property
    def layers(self) -> Shapes:
        """The linear layers of the DiT, in diffusers spelling."""
        return linear_layers(self.model.config("transformer"))

    @cached_property
    def sized(self) -> Adapter:
        """The adapter, with the ranks that the targets give."""
        return self.adapter.with_ranks(self.targets.ranks(self.layers))

    @cached_property
    def measured_elsewhere(self) -> str:
        """What the targets were measured on that is not what is trained on."""
        return self.targets.differs(self.songs.digest(), self.weights, self.model.name)

    @cached_property
    def weights(self) -> str:
        """The digest of the base's weights."""
        return sample_weights(self.model.checkpoint, "transformer")

    @cached_property
    def density(self) -> Timesteps:
        """The density of timesteps, with what it leaves to the checkpoint."""
        return self.timesteps.fitted(self.model.checkpoint.said_of_timesteps())

    @cached_property
    def formats(self) -> Precision:
        """The precision on the device that is trained on. Raises `Refused` where the device cannot do as asked for."""
        return self.precision.on(self.trainer.device)

    @cached_property
    def split(self) -> tuple[list[CachedSong], list[CachedSong]]:
        """Songs to train on, and songs held out."""
        training, validation = held_out([song.name for song in self.songs.songs], self.data.validation)
        return [self.songs.songs[i] for i in training], [self.songs.songs[i] for i in validation]

    @cached_property
    def plan(self) -> Plan:
        """Which songs make up each optimizer step."""
        lengths, repeats = zip(*((self.data.frames(song), song.repeat) for song in self.split[0]), strict=True)
        return Plan(lengths, self.songs_per_step, self.data.repeats, self.seed, repeats)

    @property
    def total_steps(self) -> int:
        return self.max_steps or self.max_epochs * self.plan.steps_per_epoch

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder, named by its signature unless `out_dir` names it."""
        recipe = ("adapter", "optimizer", "schedule", "ema", "timesteps", "loss", "weighting")
        kinds = {group: type(getattr(self, group)).__name__ for group in recipe}
        adapter = resolved(self.sized) | self.adapter.content()
        settings = resolved(self) | {"timesteps": resolved(self.density), "adapter": adapter}
        identity = identity_of(settings, kinds, self.songs.digest(), self.weights)
        return RunFolder.named(self.out_dir, self.name, identity)

    def place(self, parent: str) -> None:
        """Put the run of a multirun below `parent`, in a folder of its own that a second start finds again."""
        self.out_dir = str(Path(parent) / self.folder.called)
        del self.folder

    def run(self, bases: "SharedBase | None" = None) -> None:
        """Train until the last step or a signal; what the folder already holds is not trained again.

        Waits for another process that trains in the folder. The base is one of `bases`, where they are given.
        """
        from acetrain.training import fitting
        from acetrain.training.replicas import first_rank

        self.ready()
        with self.folder.held() if first_rank() else nullcontext():
            begun = self.begin(bases)
            if begun is not None:
                fitting.fit(self, *begun)
                self.end(*begun)

    def ready(self) -> None:
        """Raise Refused where the run cannot begin or go on; creates nothing, and loads no weight of the DiT."""
        from acetrain.acestep.conditions import template_digest
        from acetrain.acestep.load import check_base
        from acetrain.training.replicas import first_rank

        self.songs.check_template(template_digest())
        if first_rank():
            self.folder.check(may_resume=self.resume is Resume.auto)
        if newest_step(self.folder.path) < self.total_steps:
            _ = self.formats
            if first_rank():
                check_base(self.model)
                self.samples.check_model(self.model)

    def begin(self, bases: "SharedBase | None") -> "tuple[FlowMatching, Keeper] | None":
        """What trains, and what happens around its steps; None where nothing is left to train.

        The folder, which must be held, is this run's from now on.
        """
        from acetrain.adapters.summary import announce
        from acetrain.training import fitting
        from acetrain.training.replicas import first_rank

        newest = max(written(self.folder.path), default=None)
        if newest is not None and step_of(newest) >= self.total_steps:
            if first_rank():
                fitting.finish(self, newest, bases)
            return None
        if first_rank():
            self.folder.claim(repeatable(self))
            lines = advice.before(self)
            advice.noted(self.folder.path, lines)
            advice.say(lines)
            fitting.announce(self, None if newest is None else step_of(newest))
        sampler = self.samples.sampler(self.folder.path, self.model, self.formats, self.trainer.device)
        module, keeper = fitting.assemble(self, sampler, bases)
        if first_rank():
            announce(module.dit, len(self.layers), self.folder.path)
        keeper.judge = self.judge
        return module, keeper

    def end(self, module: "FlowMatching", keeper: "Keeper") -> None:
        """Say what the training has come to. Raises Interrupted where a signal has ended it."""
        from acetrain.training.replicas import first_rank

        if module.agreed_stop and module.step < self.total_steps:
            raise Interrupted(module.agreed_stop)
        if keeper.hopeless:
            vars(self)["pruned"] = True
            if first_rank():
                print(f"ended early at step {module.step}: {self.folder.path}", flush=True)
            return
        if first_rank():
            adapters = [f"adapter: {self.folder.path / 'adapter'}{kind}" for kind in self.ema.kinds]
            print("\n".join([*adapters, f"plot: {self.folder.path / 'loss.png'}"]))
