"""How often the tutorials pass over songs, by how many there are."""

from typing import NamedTuple


class Passes(NamedTuple):
    """A range of passes over the songs."""

    least: int
    most: int


BELOW = ((5, Passes(800, 1000)), (20, Passes(500, 800)))
"""Below how many songs -> how many passes."""
LATER = Passes(300, 500)
"""From there on."""


def usual_passes(songs: int) -> Passes:
    """The passes that are usual over so many songs."""
    return next((passes for most, passes in BELOW if songs < most), LATER)
