"""What visits of a song draw from: wordings of its description, and windows with the lyrics that are sung in them."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from acetrain.keyed import Key, below, share


class Take(NamedTuple):
    """What a visit takes of a song."""

    start: int
    """First latent frame."""
    frames: int
    lyrics: int
    """Number of the lyrics it is told."""
    text: int
    """Number of the text it is told."""


@dataclass(frozen=True)
class Wordings:
    """Texts that tell of the same stretch of a song, by their numbers."""

    captions: list[int]
    """The text of each wording of the caption, the one as written first."""
    genre: int | None
    """The text that names the genre in the caption's place; None where none does."""

    def drawn(self, genre_share: float, *key: Key) -> int:
        """The text of a visit: the genre's in `genre_share` of the visits, else any of the caption's."""
        if self.genre is not None and share(*key, "genre") < genre_share:
            return self.genre
        return self.captions[below(len(self.captions), *key, "caption")]


@dataclass(frozen=True)
class Windows:
    """Stretches of one length that a visit may take a song in."""

    frames: int
    """Latent frames of a window; fewer than the song's."""
    wordings: Wordings
    """Texts that state the window's duration."""
    starts: list[int]
    """Ascending, the first 0: from each of these first frames on, windows have other lyrics."""
    lyrics: list[int]
    """The lyrics of windows from each of `starts` on."""


@dataclass(frozen=True)
class Variants:
    """What is stored of a song beside its condition as written, which is lyrics 0 and then text 0.

    A condition is the rows of some lyrics, with that of the timbre, and then the rows of some text: the model encodes
    the two apart, so any lyrics and any text make a condition.
    """

    head: int
    """Rows of the condition as written that are its lyrics and timbre."""
    texts: list[int]
    """Rows of texts 1, 2, ..."""
    lyrics: list[int]
    """Rows of lyrics 1, 2, ..., with that of the timbre."""
    whole: Wordings
    windows: Windows | None
    """None where the song is not taken in windows, or no longer than one."""

    def drawn(self, frames: int, genre_share: float, cropped: bool, *key: Key) -> Take:
        """What the visit of this key takes of a song of `frames` frames; a window of it where `cropped`.

        Every first frame of a window is as likely as any other.
        """
        windows = self.windows if cropped else None
        if windows is None:
            return Take(0, frames, 0, self.whole.drawn(genre_share, *key))
        start = below(frames - windows.frames + 1, *key, "crop")
        lyrics = windows.lyrics[bisect_right(windows.starts, start) - 1]
        return Take(start, windows.frames, lyrics, windows.wordings.drawn(genre_share, *key))
