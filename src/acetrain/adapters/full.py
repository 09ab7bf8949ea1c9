"""No adapter: the model's own weights train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.adapters.adapter import Adapter, Shapes
from acetrain.adapters.files import whole
from acetrain.adapters.files.fit import located, refuse_modules
from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Full(Adapter):
    """The weights and biases of the selected layers themselves, or all of the DiT's, in fp32, without an adapter.

    What is saved are the trained weights, under the official checkpoint's names. An optimizer with two moments needs 16
    bytes for each of them.
    """

    everything: bool
    """Train all of the DiT, with its norms, convolutions and embeddings, whatever `targets` says."""

    @property
    def reads_base(self) -> str:
        return "adapter=full"

    @property
    def beyond_layers(self) -> bool:
        return self.everything

    def check_start(self, path: Path, layers: Shapes) -> None:
        files = located(path)
        if files.kind != whole.KIND:
            raise Refused(f"adapter.start_from: {path} is a {files.kind} adapter, this run trains full weights")
        theirs = whole.modules(files)
        if self.everything != whole.is_everything(files):
            raise Refused(
                f"adapter.everything: must be {not self.everything}, as {path} was trained, got {self.everything}"
            )
        if not self.everything:
            refuse_modules(path, list(layers), theirs)

    def inject(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        from acetrain.adapters.weights import release

        release(dit, None if self.everything else names)

    def fill(self, dit: "nn.Module", path: Path) -> None:
        whole.fill(dit, located(path))

    def save(self, dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
        whole.save(dit, folder, {**metadata, "base": base})
