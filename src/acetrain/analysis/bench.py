"""A base with an adapter's updates beside it, on which truncated ones are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from acetrain.analysis.beside import Beside
from acetrain.analysis.moments import Moments
from acetrain.analysis.statistics import Observer
from acetrain.analysis.truncate import Decomposed
from acetrain.data.cache import Cache, CachedSong
from acetrain.training.judging import Jury
from acetrain.training.objective import Objective
from acetrain.training.precision import Precision


@dataclass(frozen=True)
class Bench:
    """An objective on its device, and the songs that updates are observed and judged on."""

    objective: Objective
    cache: Cache
    training: Sequence[CachedSong]
    held_out: Sequence[CachedSong]
    times: Sequence[float]
    max_frames: int
    draws: int
    seed: int
    formats: Precision
    recomputed: bool = False
    """Whether blocks compute their activations again in the backward pass."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.objective.silence.device

    @property
    def judged_on(self) -> str:
        """Which songs judge: those held out, or those of the training where none are."""
        return "held_out" if self.held_out else "training"

    @property
    def sets(self) -> list[str]:
        """The sets of songs there are."""
        return ["training", "held_out"] if self.held_out else ["training"]

    def moments(self, updates: Mapping[str, Decomposed], songs: str, advance: Callable[[], None]) -> dict[str, Moments]:
        """What passes through the updates on one set of songs."""
        self.objective.dit.recompute(1 if self.recomputed else 0)
        with self.formats.autocast(self.device):
            observer = Observer(self.cache, getattr(self, songs), self.times, self.draws, self.seed)
            return observer.moments(self.objective, updates, advance)

    def loss(self, beside: Beside, updates: Mapping[str, Decomposed], songs: str = "") -> float:
        """The mean loss of the songs that judge, or of `songs`, with these updates in place of those in `beside`."""
        beside.use(updates, self.device)
        jury = Jury(self.cache, getattr(self, songs or self.judged_on), self.times)
        with self.formats.autocast(self.device):
            return jury.losses(self.objective, self.max_frames).double().mean().item()
