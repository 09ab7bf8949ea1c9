"""Which ACE-Step checkpoint a job works on, and what that variant is used with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acetrain.errors import Refused, require

EMBEDDED = Path(__file__).parent / "tiny" / "weights"


@dataclass
class Model:
    """A checkpoint folder in the diffusers layout, and the sampling settings its variant was made for."""

    variant: str
    """Name of the variant; a cache belongs to one variant and says so."""
    path: str
    """Folder of the checkpoint."""
    steps: int
    """Sampling steps at inference."""
    shift: float
    """Shift s of the sampling schedule, s*t / (1 + (s-1)*t); 1 leaves it linear."""
    guidance: float
    """Strength of classifier-free guidance (APG); 1 turns it off."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "model.steps", "at least 1", self.steps)
        require(self.shift > 0, "model.shift", "above 0", self.shift)
        require(self.guidance >= 1, "model.guidance", "at least 1 (no guidance)", self.guidance)

    def folder(self) -> Path:
        """Where the checkpoint lies."""
        return Path(self.path)

    def config(self, component: str) -> dict[str, Any]:
        """The `config.json` of one component, such as `transformer` or `vae`; no weight is read."""
        file = self.folder() / component / "config.json"
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise Refused(f"model: {file} cannot be read as JSON ({error})") from error


@dataclass
class Tiny(Model):
    """The tiny base inside the package: every real class, pretrained on synthesised songs."""

    def folder(self) -> Path:
        """The package's own weights, or `path` where it is given."""
        return Path(self.path) if self.path else EMBEDDED
