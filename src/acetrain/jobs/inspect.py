"""`acetrain inspect`: what a saved adapter is."""

import json
from dataclasses import dataclass
from pathlib import Path

from acetrain.adapters.files import saved
from acetrain.errors import require


@dataclass
class Inspect:
    """Tell what an adapter file holds, whoever wrote it: type, layout, modules, ranks, strengths, norms, base."""

    adapter_path: str
    """Adapter in any layout: a file, an adapter's folder, or a run's. Also `acetrain inspect PATH`."""
    json: bool
    """Whether to print one JSON object with every module instead of a page; `--json` says the same."""

    def __post_init__(self) -> None:
        require(bool(self.adapter_path), "adapter_path", "an adapter's file or folder", self.adapter_path)

    def check(self) -> None:
        """Whether there is an adapter that is whole and of known strength; reads its header alone."""
        saved.locate(Path(self.adapter_path))

    def run(self) -> None:
        """Read it, and print what it is."""
        from acetrain.adapters.inspection import inspect, page

        found = inspect(Path(self.adapter_path))
        print(json.dumps(found.document(), indent=2, ensure_ascii=False) if self.json else page(found))
