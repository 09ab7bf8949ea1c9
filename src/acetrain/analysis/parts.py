"""What each group of a unit's visits adds to it, on disk: in memory is only the group that is being added up."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.analysis.accumulate import Accumulator

BYTES = torch.float32.itemsize


class Parts:
    """The parts of all groups and modules, in a file without a name that goes with the process."""

    def __init__(self, folder: Path, accumulators: Mapping[str, Accumulator], groups: int) -> None:
        self.groups, self.accumulators = groups, accumulators
        self.starts, size = {}, 0
        for name, one in accumulators.items():
            self.starts[name] = size
            size += groups * one.part.numel() * BYTES
        folder.mkdir(exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed with the parts)
        self.file.truncate(size)

    def __enter__(self) -> "Parts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def keep(self, group: int) -> None:
        """Move what the accumulators hold of a group to the file."""
        for name, one in self.accumulators.items():
            self.file.seek(self.starts[name] + group * one.part.numel() * BYTES)
            self.file.write(one.part.cpu().numpy().tobytes())
            one.part.zero_()

    def of(self, name: str) -> Float[Tensor, "group p q"]:
        """The parts of a module; zero of a group that was not kept."""
        shape = (self.groups, *self.accumulators[name].part.shape)
        found = bytearray(math.prod(shape) * BYTES)
        self.file.seek(self.starts[name])
        self.file.readinto(found)  # pyright: ignore[reportAttributeAccessIssue]
        return torch.frombuffer(found, dtype=torch.float32).view(shape)
