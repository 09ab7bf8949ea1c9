"""How cached songs become batches."""

from dataclasses import dataclass

from acetrain.errors import require


@dataclass
class Data:
    """Budget of a micro-batch, the held-out songs, and the loader."""

    max_frames: int
    """Padded latent frames a micro-batch holds (25 a second in the released models). A longer song is a micro-batch of
    its own. It changes memory and speed, never the result."""
    validation: float
    """Share of the songs held out for validation, in [0, 1); at least one from 5 songs on, none below."""
    repeats: int
    """How often each song comes in an epoch."""
    workers: int
    """Loader processes; 0 reads in the training process."""

    def __post_init__(self) -> None:
        require(self.max_frames >= 1, "data.max_frames", "at least 1", self.max_frames)
        require(0 <= self.validation < 1, "data.validation", "in [0, 1)", self.validation)
        require(self.repeats >= 1, "data.repeats", "at least 1", self.repeats)
        require(self.workers >= 0, "data.workers", "at least 0", self.workers)
