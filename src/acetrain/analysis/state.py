"""Sums that are done, one file a unit: what a second start goes on from."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from acetrain.analysis.grid import Grid, Unit
from acetrain.atomic import replacing
from acetrain.errors import Failed

Sums = Mapping[str, Mapping[str, Tensor]]
"""Module -> the tensors that add up for it."""


@dataclass(frozen=True)
class State:
    """The folder of the units of one run."""

    folder: Path

    def missing(self, units: Sequence[Unit]) -> list[Unit]:
        """Those not done."""
        return [unit for unit in units if not self._file(unit).is_file()]

    def write(self, unit: Unit, sums: Sums) -> None:
        """Keep what a unit gave, whole or not at all."""
        self.folder.mkdir(exist_ok=True)
        tensors = {f"{name}:{part}": value.cpu() for name, parts in sums.items() for part, value in parts.items()}
        with replacing(self._file(unit)) as temporary:
            save_file(tensors, temporary)

    def modules(self, grid: Grid, names: Sequence[str]) -> Iterator[list[list[dict[str, Tensor]]]]:
        """For each module in turn what every bin of either half gave, [half][bin]; one module at a time in memory.

        Raises Failed where a file cannot be read.
        """
        try:
            files = [[safe_open(self._file(unit), "pt") for unit in grid.units if unit.half == half] for half in (0, 1)]
            for name in names:
                yield [[_parts(file, name) for file in half] for half in files]
        except (OSError, SafetensorError) as error:
            raise Failed(f"{self.folder}: cannot be read ({error}); remove it to begin again") from error

    def remove(self) -> None:
        """Drop all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, unit: Unit) -> Path:
        return self.folder / f"{unit.name}.safetensors"


def _parts(file: safe_open, name: str) -> dict[str, torch.Tensor]:
    parts = ("matrix", "right", "left", "groups", "scalars")
    held = set(file.keys())
    return {part: file.get_tensor(f"{name}:{part}") for part in parts if f"{name}:{part}" in held}
