"""The styles' names, apart from what plays them: a configuration can be checked without loading any sound."""

NAMES = ("chiptune", "piano", "synthwave", "ambient", "marimba")
"""Every style."""

MIX = "mix"
"""Stands for all styles in turn."""


def style_of(style: str, index: int) -> str:
    """The style of song `index`: `style` itself, or for the mix each in turn, a turn later at each round.

    The turns differ from those of the audio formats, so that every style comes in every format.
    """
    return NAMES[(index + index // len(NAMES)) % len(NAMES)] if style == MIX else style
