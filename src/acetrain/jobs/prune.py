"""`acetrain prune`: a smaller adapter that does nearly the same."""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain.acestep.model import Model
from acetrain.adapters.files import peft, saved
from acetrain.adapters.files.fit import digest
from acetrain.adapters.kinds import needs_base
from acetrain.config import repeatable, resolved
from acetrain.errors import Refused, require
from acetrain.training.run_folder import RunFolder, flat

if TYPE_CHECKING:
    from acetrain.analysis.pruning import Budget

BUDGETS = (
    *("rank", "sv_ratio", "sv_cumulative", "sv_fro", "energy"),
    *("parameters", "bytes", "max_loss_increase"),
)
"""Keys that say how much is kept; exactly one is given."""
OF_EACH = ("rank", "sv_ratio", "sv_cumulative", "sv_fro")
"""Those that are said of a single module."""


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
    """Folder of the adapter as a run writes it, or its safetensors; of any type, the result is a LoRA."""
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
    model: Model

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        require(bool(self.adapter_path), "adapter_path", "an adapter's folder or safetensors", self.adapter_path)
        require(bool(self.out_dir), "out_dir", "a folder", self.out_dir)
        given = [key for key in BUDGETS if getattr(self, key) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise Refused(f"rank: exactly one budget must be given of {', '.join(BUDGETS)}; got {got}")
        self._check_amount(given[0], getattr(self, given[0]))

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
        """Whether adapter and folder go together; reads no tensor and creates nothing."""
        files = saved.locate(Path(self.adapter_path))
        if self.reads_base:
            self.model.config("transformer")
        apart = Path(self.out_dir).resolve() != files.weights.parent.resolve()
        require(apart, "out_dir", "another folder than the adapter's", self.out_dir)
        self.folder.check(may_resume=True)

    @cached_property
    def reads_base(self) -> bool:
        """Whether the adapter's type needs the base's weights."""
        files = saved.locate(Path(self.adapter_path))
        return needs_base(files.kind, peft.is_dora(files))

    @property
    def budget(self) -> "Budget":
        """The one budget that is given."""
        from acetrain.analysis.pruning import Budget

        key = next(key for key in BUDGETS if getattr(self, key) is not None)
        return Budget(key, getattr(self, key), self.allocate.name == "global")

    @cached_property
    def folder(self) -> RunFolder:
        """The folder, claimed by what determines the result."""
        settings = {key: value for key, value in flat(resolved(self)).items() if key not in ("adapter_path", "out_dir")}
        return RunFolder(Path(self.out_dir), {**settings, "adapter": digest(Path(self.adapter_path))})

    def run(self) -> None:
        """Truncate, and write the adapter and what was found."""
        from acetrain.adapters.updates import read_updates
        from acetrain.analysis.pruning import prune
        from acetrain.analysis.pruning_report import write

        updates = read_updates(Path(self.adapter_path), self.model if self.reads_base else None)
        found = prune(updates, self.method.name, self.budget)
        self.folder.claim(repeatable(self))
        write(found, updates, self.folder.path, self.balanced, resolved(self))
