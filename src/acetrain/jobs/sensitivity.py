"""`acetrain sensitivity`: which modules are worth training, at which rank, from the gradients of a cache's songs."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from acetrain.acestep.model import Model
from acetrain.acestep.names import linear_layers
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.targets import Targets
from acetrain.analysis.grid import Grid
from acetrain.analysis.sizes import numbers
from acetrain.config import repeatable, resolved
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.foreign.encoding import refuse_unconverted
from acetrain.data.plan import held_out
from acetrain.errors import Interrupted, Refused, require
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.keyed import seed_of
from acetrain.tracking.logger import LoggerOption
from acetrain.training.precision import Format, Precision
from acetrain.training.run_folder import RunFolder, identity_of
from acetrain.training.trainer import Accelerator

UNSIGNED = ("accelerator", "devices", "gradient_checkpointing")
"""Keys, beside training's, that change how fast the result comes, not what it is."""


@dataclass
class Sensitivity:
    """Measure which modules of the DiT a cache of encoded songs asks to be trained, and at which rank."""

    name: str
    """Name of the run: its folder and its W&B run start with it."""
    cache: str
    """Folder that `acetrain preprocess` wrote."""
    out_dir: str
    """Folder of the report; empty for `runs/<name>-<signature>`. In a multirun, the folder that holds one such folder a
    job."""
    seed: int
    """Seed of noise, halves and sketches."""
    model: Model
    targets: Targets
    timesteps: Timesteps
    loss: Loss
    weighting: Weighting
    precision: Precision
    logger: LoggerOption
    accelerator: Accelerator
    """Kind of device; auto takes a GPU where there is one, gpu refuses to run without."""
    devices: int
    """Processes, each with a device, among which songs are dealt."""
    gradient_checkpointing: bool
    """Whether blocks keep no activations but compute them again in the backward pass: less memory, more time."""
    validation: float
    """Share of the songs that is left out, in [0, 1): those that a training with the same `data.validation` holds out,
    so that they can still judge it."""
    songs: int | None
    """Most songs that are looked at, drawn by the seed; null for all."""
    bins: int
    """Bins of equal probability of the training density that figures are also given for, 1 to 64."""
    draws: int | None
    """Times, each with noise of its own, that a song is looked at in each bin; null for 1, or as many as give each half
    8 of them where songs are few."""
    rank_max: int
    """Singular values estimated for each module, at least 1; at most half of `sketch`, where that is not 0."""
    sketch: int
    """Width of the sketches of gradients, at least 8: wider ones take more memory and are more exact. 0 adds up whole
    gradients, as is done anyway where these are no larger than their sketches."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""
    sweep: ClassVar[str] = ""
    """The sweep that the run belongs to; a tracker's group of runs, and no part of what the run is."""

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, "name", "a word without '/'", self.name)
        require(self.devices >= 1, "devices", "at least 1", self.devices)
        require(0 <= self.validation < 1, "validation", "in [0, 1)", self.validation)
        require(self.songs is None or self.songs >= 1, "songs", "at least 1, or null", self.songs)
        require(1 <= self.bins <= 64, "bins", "from 1 to 64", self.bins)
        require(self.draws is None or self.draws >= 1, "draws", "at least 1, or null", self.draws)
        require(self.sketch == 0 or self.sketch >= 8, "sketch", "at least 8, or 0", self.sketch)
        most = f"from 1 to half of sketch ({self.sketch})" if self.sketch else "at least 1"
        require(1 <= self.rank_max <= (self.sketch // 2 or self.rank_max), "rank_max", most, self.rank_max)
        fp16 = Format.fp16 in (self.precision.base, self.precision.compute)
        require(not fp16, "precision", "fp32, bf16 or auto, as small gradients vanish in fp16", "fp16")

    def check(self) -> None:
        """Whether data, model, targets and folder go together; reads no weight and creates nothing."""
        self.opened.check_model(self.model)
        self.logger.check()
        self.folder.check(may_resume=True)
        self._check_space()

    @cached_property
    def opened(self) -> Cache:
        """The cache, opened."""
        refuse_unconverted(self.cache, self.model)
        return Cache.open(self.cache)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The modules that are measured, in diffusers spelling: outputs and inputs."""
        layers = linear_layers(self.model.config("transformer"))
        return {name: layers[name] for name in self.targets.select(layers)}

    @cached_property
    def density(self) -> Timesteps:
        """The density of timesteps, with what it leaves to the checkpoint."""
        return self.timesteps.fitted(self.model.checkpoint.said_of_timesteps())

    @cached_property
    def chosen(self) -> list[CachedSong]:
        """The songs that are looked at."""
        songs = self.opened.songs
        training, _ = held_out([song.name for song in songs], self.validation)
        drawn = sorted(training, key=lambda index: seed_of(self.seed, "songs", songs[index].name))
        return [songs[index] for index in sorted(drawn[: self.songs])]

    @cached_property
    def grid(self) -> Grid:
        """The visits."""
        return Grid(self.chosen, self.density, self.loss.reduction, self.bins, self.draws, self.seed)

    @cached_property
    def weights(self) -> str:
        """Digest of the DiT's weights."""
        return sample_weights(self.model.checkpoint, "transformer")

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder, named by its signature unless `out_dir` names it."""
        kinds = {group: type(getattr(self, group)).__name__ for group in ("timesteps", "loss", "weighting")}
        signed = {key: value for key, value in resolved(self).items() if key not in UNSIGNED}
        settings = signed | {"timesteps": resolved(self.density)}
        identity = identity_of(settings, {**kinds, "job": "sensitivity"}, self.opened.digest(), self.weights)
        return RunFolder.named(self.out_dir, self.name, identity)

    def place(self, parent: str) -> None:
        """Put the run of a multirun below `parent`, in a folder of its own that a second start finds again."""
        self.out_dir = str(Path(parent) / self.folder.called)
        del self.folder

    def run(self) -> None:
        """Measure until all is measured or a signal; what the folder already holds is not measured again."""
        from acetrain.acestep.conditions import template_digest
        from acetrain.analysis import measuring
        from acetrain.training.replicas import first_rank

        self.opened.check_template(template_digest())
        if measuring.is_done(self):
            measuring.tell(self)
            return
        try:
            measuring.measure(self, repeatable(self))
        except Interrupted as ended:
            raise Interrupted(ended.signum, "the same command goes on with the sums that are missing") from None
        if first_rank():
            measuring.tell(self)

    def _check_space(self) -> None:
        """Raise Refused where the disk does not hold the sums, which lie there until the report is made."""
        grid = self.grid
        each = [numbers(shape, self.sketch, grid.groups(half)) for half in (0, 1) for shape in self.shapes.values()]
        wanted = 4 * self.bins * sum(each)
        existing = next(each for each in (self.folder.path, *self.folder.path.absolute().parents) if each.exists())
        free = shutil.disk_usage(existing).free + sum(file.stat().st_size for file in self.folder.path.glob("state/*"))
        if free < wanted:
            has = f"{wanted / 1e9:.1f} GB of sums on the way, {existing} has {free / 1e9:.1f} GB free"
            raise Refused(f"out_dir: must hold {has}; a smaller sketch or fewer bins need less")
