"""`acetrain compare`: how alike two adapters are."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from acetrain.acestep.model import Model
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.files import saved
from acetrain.adapters.files.fit import digest
from acetrain.config import repeatable, resolved
from acetrain.errors import require
from acetrain.training.run_folder import RunFolder


@dataclass
class Compare:
    """Compare what two adapters add to each weight: directions, spaces, sizes."""

    adapter_paths: list[str]
    """Two adapters in any layout, each a file, an adapter's folder, or a run's; their types may differ."""
    out_dir: str
    """Folder to write `compare.json`, `compare.csv` and `compare.png` to; empty for `runs/compare-<signature>`. In a
    multirun, the folder that holds one such folder a job."""
    rank: int | None
    """Largest directions of each update whose spaces are compared, at least 1; null for all it has."""
    model: Model
    """What the adapters were trained on; read for types whose update follows from the base's weights alone."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        require(len(self.adapter_paths) == 2, "adapter_paths", "two adapters", self.adapter_paths)
        require(self.rank is None or self.rank >= 1, "rank", "at least 1, or null", self.rank)

    def check(self) -> None:
        """Whether the adapters are there and the folder may be used; reads no tensor and creates nothing."""
        if any(self.based):
            self.model.config("transformer")
        self.folder.check(may_resume=True)

    @cached_property
    def based(self) -> list[bool]:
        """Whether each adapter's type needs the base's weights."""
        found = [saved.locate(Path(path)) for path in self.adapter_paths]
        return [saved.needs_base(files) for files in found]

    @cached_property
    def folder(self) -> RunFolder:
        """The folder, claimed by what determines the result."""
        identity = {"rank": self.rank, "adapters": [digest(Path(path)) for path in self.adapter_paths]}
        if any(self.based):
            identity["model"] = sample_weights(self.model.checkpoint, "transformer")
        return RunFolder.named(self.out_dir, "compare", identity)

    def place(self, parent: str) -> None:
        """Put the comparison of a multirun below `parent`, in a folder of its own that a second start finds again."""
        self.out_dir = str(Path(parent) / self.folder.called)
        del self.folder

    def run(self) -> None:
        """Compare, write the figures, and print them by kind of module."""
        from acetrain.adapters.updates import read_updates
        from acetrain.analysis.comparing import compare
        from acetrain.analysis.comparing_report import write
        from acetrain.analysis.pruning import decompositions

        self.folder.check(may_resume=True)
        both = [
            read_updates(Path(path), self.model if based else None)
            for path, based in zip(self.adapter_paths, self.based, strict=True)
        ]
        first, second = map(decompositions, both)
        found = compare(first, second, self.rank)
        self.folder.claim(repeatable(self))
        adapters = [
            {"path": path, "kind": one.kind, "base": one.base, "sha256": digest(Path(path))}
            for path, one in zip(self.adapter_paths, both, strict=True)
        ]
        write(found, self.folder.path, adapters, resolved(self))
