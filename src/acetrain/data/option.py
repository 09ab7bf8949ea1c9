"""How cached songs become batches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.data.formats import LONGEST
from acetrain.data.script import window_frames
from acetrain.errors import Refused, require

if TYPE_CHECKING:
    from acetrain.data.cache import Cache
    from acetrain.data.index import CachedSong

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
    crop_seconds: float | None
    """Seconds that a visit hears of a longer song, from a place drawn anew each time; null for whole songs. The cache
    must have been preprocessed with the same `crop_seconds`, whose prompts state that length. Validation hears whole
    songs."""
    workers: int
    """Loader processes; 0 reads in the training process."""

    def __post_init__(self) -> None:
        known = self.max_frames == AUTO or (self.max_frames.isdecimal() and int(self.max_frames) >= 1)
        require(known, "data.max_frames", "a whole number of at least 1, or auto", self.max_frames)
        require(0 <= self.validation < 1, "data.validation", "in [0, 1)", self.validation)
        require(self.repeats >= 1, "data.repeats", "at least 1", self.repeats)
        require(self.workers >= 0, "data.workers", "at least 0", self.workers)
        crop, rule = self.crop_seconds, f"at least 1 and at most {LONGEST}, or null"
        require(crop is None or 1 <= crop <= LONGEST, "data.crop_seconds", rule, crop)

    @property
    def budget(self) -> int | None:
        """`max_frames` as a number; None where the device is to say."""
        return None if self.max_frames == AUTO else int(self.max_frames)

    @property
    def cropped(self) -> bool:
        """Whether visits take windows of songs."""
        return self.crop_seconds is not None

    def frames(self, song: "CachedSong") -> int:
        """Latent frames that a visit takes of a song."""
        return song.heard(self.cropped)

    def check(self, cache: "Cache") -> None:
        """Raise `Refused` where visits are to take windows that the cache was not encoded for."""
        if self.crop_seconds is None:
            return
        rate = cache.fingerprint.frame_rate
        wanted = window_frames(self.crop_seconds, rate)
        for song in cache.songs:
            if song.frames > wanted and song.window != wanted:
                has = f"windows of {song.window / rate:g} s" if song.window else "no windows"
                raise Refused(
                    f"data.crop_seconds: must be as the cache was encoded; {song.name} has {has} there, asked for are "
                    f"{self.crop_seconds:g} s\nacetrain preprocess with crop_seconds={self.crop_seconds:g} encodes them"
                )
