"""What a run trains: small modules attached to linear layers of a frozen DiT, or the layers themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.adapters.files.fit import digest
from acetrain.adapters.regime import Regime
from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import nn

    from acetrain.data.batch import Batch
    from acetrain.data.cache import CachedSong

Shapes = Mapping[str, tuple[int, int]]
"""Linear layers: diffusers name -> (outputs, inputs)."""


@dataclass
class Adapter:
    """An adapter type and its size."""

    start_from: str = field(kw_only=True)
    """Adapter to go on from, the folder a run wrote or the safetensors in it, of the same type, size and targets; empty
    to begin anew."""

    def check(self, layers: Shapes) -> None:
        """Raise Refused where the adapter, or the one to start from, does not go with the selected `layers`."""
        if self.start_from:
            self.check_start(Path(self.start_from), layers)

    def with_ranks(self, ranks: Mapping[str, int]) -> "Adapter":
        """The adapter with these ranks, module -> rank, its strength the same; itself where there are none. Raises
        Refused where it is no LoRA, or has ranks of its own."""
        if ranks:
            raise Refused(f"adapter: must be lora, rslora or dora where targets give ranks, got {type(self).__name__}")
        return self

    def check_songs(self, songs: "Sequence[CachedSong]", sharded: bool) -> None:
        """Raise Refused where the adapter cannot take its first weights from the songs to train on, or from a base that
        is shared out over ranks."""

    def looked_at(self, songs: "Sequence[CachedSong]") -> "Sequence[CachedSong]":
        """Those of the songs to train on that the adapter takes its first weights from."""
        return ()

    def content(self) -> dict[str, str]:
        """Fields that name a file -> the digest of what it holds."""
        return {"start_from": digest(Path(self.start_from))} if self.start_from else {}

    @property
    def reads_base(self) -> str:
        """What in this adapter works on the base's weights themselves, so that they must be dense; empty for none."""
        return ""

    @property
    def beyond_layers(self) -> bool:
        """Whether it changes more of the DiT than linear layers."""
        return False

    @property
    def drops(self) -> str:
        """The field by which something is left out at random in training; empty for none."""
        rates = [each.name for each in fields(self) if each.name.endswith("dropout") and getattr(self, each.name) > 0]
        return "".join(f"adapter.{name}" for name in rates[:1])

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        """Attach the adapter to exactly the modules `names`; only its weights, in fp32, require gradients."""
        self.inject(dit, names, seed)
        if self.start_from:
            self.fill(dit, Path(self.start_from))

    def regime(self, dit: "nn.Module", total_steps: int, songs: "Sequence[Batch]") -> Regime:
        """What the attached adapter does in a run of `total_steps` beside following its gradient; `songs` are those it
        looks at before the first step, each alone."""
        return Regime()

    def check_start(self, path: Path, layers: Shapes) -> None:
        """Raise Refused, naming what differs, unless a run on `layers` can go on from the adapter at `path`."""
        raise NotImplementedError

    def inject(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        """Attach the adapter with the first weights of its type."""
        raise NotImplementedError

    def fill(self, dit: "nn.Module", path: Path) -> None:
        """Give the attached adapter the weights at `path`."""
        raise NotImplementedError

    def save(self, dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
        """Write the attached adapter, with `metadata` in the header of its weights; `base` names the model."""
        raise NotImplementedError
