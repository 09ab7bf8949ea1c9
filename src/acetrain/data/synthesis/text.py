"""Captions and lyrics of composed songs."""

import numpy as np

from acetrain.data.synthesis.styles import Style

INSTRUMENTAL = "[Instrumental]"

_LINES = (
    "Slow light over the hill",
    "We follow the river home",
    "Count the stars with me",
    "Every window is open now",
    "Hold on to the morning",
    "Rain on an empty road",
    "I hear the city breathe",
    "Turn the silence into song",
    "Nothing is lost tonight",
    "Dance till the colours fade",
)
_MOODS = {"major": ("happy", "hopeful", "sunny"), "minor": ("sad", "longing", "mysterious")}


def caption(rng: np.random.Generator, style: Style, mode: str, bpm: int, sung: bool) -> str:
    """A line of the kind people write: style, character, mood, tempo."""
    word, colour = rng.choice(style.words), rng.choice(style.colours)
    mood = rng.choice(_MOODS[mode])
    tempo = "slow" if bpm < 84 else "mid-tempo" if bpm < 120 else "fast"
    singer = ", with a wordless voice" if sung else ""
    forms = (
        f"{colour} {word}, {mood}, {tempo}{singer}",
        f"{word}: {mood} and {colour}{singer}",
        f"a {mood}, {colour} {word} piece{singer}",
    )
    return str(rng.choice(forms))


def lyrics(rng: np.random.Generator, seconds: float) -> str:
    """Two or four short lines under structure tags, by the length of the song."""
    count = 2 if seconds < 10 else 4
    lines = [_LINES[i] for i in rng.choice(len(_LINES), count, replace=False)]
    middle = count // 2
    return "\n".join(["[Verse]", *lines[:middle], "", "[Chorus]", *lines[middle:]])


def vowels(words: str) -> str:
    """The vowels of the sung lines in order: what the voice sings; `a` where there are none."""
    sung = "".join(line for line in words.lower().splitlines() if not line.startswith("["))
    return "".join(letter for letter in sung if letter in "aeiou") or "a"
