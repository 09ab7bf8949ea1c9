"""Where a saved adapter lies."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's weights and, where it has one of its own, the file that describes them."""

    weights: Path
    kind: str
    """The adapter's type: PEFT's name of it, `LyCORIS`, `decomposed LyCORIS`, or `full`."""
    config: Path | None = None

    @property
    def parts(self) -> dict[str, Path]:
        """The files by what they are."""
        return {"weights": self.weights} | ({} if self.config is None else {"config": self.config})
