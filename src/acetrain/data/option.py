"""How cached songs become batches."""

from dataclasses import dataclass

from acetrain.errors import require

AUTO = "auto"
"""The frame budget that the device turns out to hold."""


@dataclass
class Data:
    """Budget of a micro-batch, the held-out songs, and the loader."""

    max_frames: str
    """Padded latent frames a micro-batch holds (25 a second in the released models), or auto. A longer song is a
    micro-batch of its own. It changes memory and speed, never the result. auto finds what the GPU's memory holds by
    trying real steps before the first one, and remembers it."""
    budgets: str
    """Folder where what `max_frames=auto` found is remembered, by card, model, adapter and precision; empty to forget
    it."""
    validation: float
    """Share of the songs held out for validation, in [0, 1); at least one from 5 songs on, none below."""
    repeats: int
    """How often each song comes in an epoch; a song with a repeat of its own comes that many times as often."""
    workers: int
    """Loader processes; 0 reads in the training process."""

    def __post_init__(self) -> None:
        known = self.max_frames == AUTO or (self.max_frames.isdecimal() and int(self.max_frames) >= 1)
        require(known, "data.max_frames", "a whole number of at least 1, or auto", self.max_frames)
        require(0 <= self.validation < 1, "data.validation", "in [0, 1)", self.validation)
        require(self.repeats >= 1, "data.repeats", "at least 1", self.repeats)
        require(self.workers >= 0, "data.workers", "at least 0", self.workers)

    @property
    def budget(self) -> int | None:
        """`max_frames` as a number; None where the device is to say."""
        return None if self.max_frames == AUTO else int(self.max_frames)
