"""`acetrain prune`: a smaller adapter that does nearly the same."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain.acestep.model import VARIANTS, Model
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.files import saved
from acetrain.adapters.files.fit import digest
from acetrain.adapters.files.found import AdapterFiles
from acetrain.config import repeatable, resolved
from acetrain.data.cache import Cache, CachedSong
from acetrain.data.plan import held_out
from acetrain.errors import Refused, require
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.training.precision import Precision
from acetrain.training.run_folder import RunFolder, flat
from acetrain.training.trainer import Accelerator

if TYPE_CHECKING:
    from acetrain.analysis.bench import Bench
    from acetrain.analysis.pruning import Budget, Pruned
    from acetrain.analysis.truncate import Decomposed

BUDGETS = (
    *("rank", "sv_ratio", "sv_cumulative", "sv_fro", "energy"),
    *("parameters", "bytes", "max_loss_increase"),
)
"""Keys that say how much is kept; exactly one is given."""
OF_EACH = ("rank", "sv_ratio", "sv_cumulative", "sv_fro")
"""Those that are said of a single module."""

UNSIGNED = ("adapter_path", "out_dir", "cache", "model", "max_frames", "gradient_checkpointing", "accelerator")
"""Keys, with all below them, whose values say where and how fast, or are told by what they stand for."""


class Method(Enum):
    """What a truncated update stays near to."""

    weights = "weights"
    activations = "activations"
    loss = "loss"


Allocate = Enum("Allocate", {"uniform": "uniform", "global": "global"})
"""Who a budget is for: each module, or all together."""


@dataclass
class Prune:
    """Truncate an adapter to lower ranks."""

    adapter_path: str
    """Adapter in any layout: a file, an adapter's folder, or a run's; of any type, the result is a LoRA."""
    out_dir: str
    """Folder to write to: `adapter/`, `prune.json` and a plot."""
    method: Method
    """What stays as near as a rank allows: weights, the update itself; activations, what it adds to the outputs on the
    songs of `cache`; loss, the loss on them, to second order."""
    rank: int | None
    """Budget: rank of every module, at least 1."""
    sv_ratio: float | None
    """Budget: each module keeps singular values above its largest over this, above 1 (kohya's meaning)."""
    sv_cumulative: float | None
    """Budget: share of each module's sum of singular values, in (0, 1] (kohya's meaning)."""
    sv_fro: float | None
    """Budget: share of each module's Frobenius norm, in (0, 1] (kohya's meaning: of the norm, not of its square)."""
    energy: float | None
    """Budget: share of the squared singular values, in (0, 1], of each module or, with allocate=global, of all."""
    parameters: int | None
    """Budget: parameters in all."""
    bytes: int | None
    """Budget: bytes of the tensors in all, in the format they are in now."""
    max_loss_increase: float | None
    """Budget: the smallest adapter whose measured loss on the held-out songs of `cache` rises by no more than this,
    above 0."""
    allocate: Allocate
    """Who the budget is for: uniform, each module (one common rank for parameters, bytes and max_loss_increase);
    global, all modules together, ranks going where they gain most for a parameter, and none where they gain little."""
    balanced: bool
    """Whether B and A come out equally long, so that training can go on from them; otherwise A has orthonormal rows."""
    cache: str
    """Folder that `acetrain preprocess` wrote, whose songs show what the adapter does; empty for none, which is enough
    for weights. With it, the change of loss is predicted and measured, and every method is drawn."""
    validation: float
    """Share of the songs that the result is judged on, in [0, 1), by name as `data.validation` of a training holds them
    out; the others are observed. Below 5 songs all are both."""
    quantiles: int
    """Points of the grid of times: middle quantiles of equal shares of the density, at least 1."""
    draws: int
    """Gauss-Newton draws of each song at each time, at least 1."""
    points: int
    """Sizes at which every method is measured for the plot, at least 2, or 0 for none."""
    each_module: bool
    """Whether each module is also truncated alone and measured: as many passes over the held-out songs as modules."""
    max_frames: int
    """Padded latent frames that are judged at a time, at least 1."""
    gradient_checkpointing: bool
    """Whether blocks keep no activations of a song that is observed but compute them again: less memory, more time."""
    seed: int
    """Seed of the noise that songs are observed with."""
    accelerator: Accelerator
    """Kind of device that songs are observed on; auto takes a GPU where there is one."""
    model: Model
    timesteps: Timesteps
    loss: Loss
    weighting: Weighting
    precision: Precision

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        require(bool(self.adapter_path), "adapter_path", "an adapter's folder or safetensors", self.adapter_path)
        require(bool(self.out_dir), "out_dir", "a folder", self.out_dir)
        for key in self._given:
            self._check_amount(key, getattr(self, key))
        require(0 <= self.validation < 1, "validation", "in [0, 1)", self.validation)
        for key in ("quantiles", "draws", "max_frames"):
            require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))
        require(self.points == 0 or self.points >= 2, "points", "at least 2, or 0 for none", self.points)

    @property
    def _given(self) -> list[str]:
        """The budgets that are given."""
        return [key for key in BUDGETS if getattr(self, key) is not None]

    def _check_amount(self, key: str, amount: float) -> None:
        if key in ("rank", "parameters", "bytes"):
            require(amount >= 1, key, "at least 1", amount)
        elif key == "sv_ratio":
            require(1 < amount < math.inf, key, "above 1 and finite", amount)
        elif key == "max_loss_increase":
            require(0 < amount < math.inf, key, "above 0 and finite", amount)
        else:
            require(0 < amount <= 1, key, "in (0, 1]", amount)
        if key in OF_EACH and self.allocate.name == "global":
            rule = f"uniform with {key}, which is said of each module; energy, parameters, bytes and max_loss_increase"
            require(False, "allocate", f"{rule} can be shared", "global")

    def check(self) -> None:
        """Whether adapter, songs, model and folder go together; reads no tensor and creates nothing."""
        self._check_budget()
        files = saved.locate(Path(self.adapter_path))
        apart = Path(self.out_dir).resolve() != files.weights.parent.resolve()
        require(apart, "out_dir", "another folder than the adapter's", self.out_dir)
        if self.reads_base or self.cache:
            self._check_base(files)
        if self.cache:
            self.songs.check_model(self.model)
            found = len(self.split[1])
            if self.max_loss_increase is not None and not found:
                raise Refused(
                    f"max_loss_increase: must have held-out songs, {self.cache} gives none of {len(self.songs.songs)}"
                )
        self.folder.check(may_resume=True)

    def _check_budget(self) -> None:
        """Refuse none and several, and one that only songs can tell where there are none."""
        if len(self._given) != 1:
            got = " and ".join(self._given) or "none"
            raise Refused(f"rank: exactly one budget must be given of {', '.join(BUDGETS)}; got {got}")
        measured = self.max_loss_increase is not None
        needs = "max_loss_increase" if measured else f"method={self.method.name}"
        told = bool(self.cache) or (self.method is Method.weights and not measured)
        require(told, "cache", f"the folder of encoded songs for {needs}", self.cache)

    def _check_base(self, files: AdapterFiles) -> None:
        """Refuse an adapter that says it is for another variant than the model's."""
        self.model.config("transformer")
        said = saved.said_base(files)
        if said in (*VARIANTS, "tiny") and said != self.model.name:
            raise Refused(f"adapter_path: {self.adapter_path} was trained on {said}, the model is {self.model.name}")

    @cached_property
    def songs(self) -> Cache:
        """The cache, opened."""
        return Cache.open(self.cache)

    @cached_property
    def split(self) -> tuple[list[CachedSong], list[CachedSong]]:
        """Songs to observe, and songs held out."""
        training, validation = held_out([song.name for song in self.songs.songs], self.validation)
        return [self.songs.songs[i] for i in training], [self.songs.songs[i] for i in validation]

    @cached_property
    def reads_base(self) -> bool:
        """Whether the adapter's type needs the base's weights."""
        files = saved.locate(Path(self.adapter_path))
        return saved.needs_base(files)

    @property
    def budget(self) -> "Budget":
        """The one budget that is given."""
        from acetrain.analysis.pruning import Budget

        [key] = self._given
        return Budget(key, getattr(self, key), self.allocate.name == "global")

    @cached_property
    def folder(self) -> RunFolder:
        """The folder, claimed by what determines the result."""
        settings = {key: value for key, value in flat(resolved(self)).items() if key.split(".")[0] not in UNSIGNED}
        identity = {**settings, "adapter": digest(Path(self.adapter_path))}
        if self.reads_base or self.cache:
            identity["model"] = sample_weights(self.model.checkpoint, "transformer")
        if self.cache:
            kinds = {key: type(getattr(self, key)).__name__ for key in ("timesteps", "loss", "weighting")}
            identity |= {**kinds, "cache": self.songs.digest()}
        return RunFolder(Path(self.out_dir), identity)

    def run(self) -> None:
        """Truncate, and write the adapter and what was found; what the folder holds already is not done again."""
        from acetrain.adapters.updates import read_updates
        from acetrain.analysis import pruning
        from acetrain.analysis.each import one_thread
        from acetrain.analysis.pruning_report import REPORT, write

        self.folder.check(may_resume=True)
        if (self.folder.path / REPORT).exists():
            print(f"nothing left to do: {self.folder.path} holds this already")
            return
        with one_thread():
            updates = read_updates(Path(self.adapter_path), self.model if self.reads_base else None)
            wholes = pruning.decompositions(updates)
        found = self._pruned(wholes, updates.dtype.itemsize)
        self.folder.claim(repeatable(self))
        with one_thread():
            write(found, updates, self.folder.path, self.balanced, resolved(self), self.folder.identity["adapter"])

    def _pruned(self, wholes: "Mapping[str, Decomposed]", itemsize: int) -> "Pruned":
        from acetrain.analysis.pruning import prune

        if not self.cache:
            return prune(wholes, self.method.name, self.budget, itemsize)
        from acetrain.analysis.trials import prune_on

        bench = self._bench()
        return prune_on(bench, wholes, self.method.name, self.budget, itemsize, self.points, self.each_module)

    def _bench(self) -> "Bench":
        from acetrain.acestep.conditions import template_digest
        from acetrain.acestep.load import load_base
        from acetrain.analysis.bench import Bench
        from acetrain.training.device import device_of
        from acetrain.training.judging import middle_quantiles
        from acetrain.training.objective import Objective

        self.songs.check_template(template_digest())
        device = device_of(self.accelerator)
        formats = self.precision.on(device)
        base = load_base(self.model, formats.base.dtype)
        formats.store(base.dit, device)
        objective = Objective.on(base, self.loss, self.weighting, device)
        density = self.timesteps.fitted(self.model.checkpoint.said_of_timesteps())
        times = middle_quantiles(density, self.quantiles)
        judging = (times, self.max_frames, self.draws, self.seed)
        return Bench(objective, self.songs, *self.split, *judging, formats, self.gradient_checkpointing)
