"""Keys, meters, functional chord progressions and the leading of voices."""

from dataclasses import dataclass

import numpy as np

RASTER = 12.5
"""Hz; every pitch at 300 Hz and above is a multiple of it, every lower one of its half."""

_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 1, 4), (0, 2, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 5, 3, 4), (0, 3, 0, 4), (0, 6, 5, 4), (0, 2, 5, 4)),
}


def hertz(pitch: int) -> float:
    """Frequency of a MIDI pitch, moved from equal temperament to the nearest multiple of the raster.

    A held chord then repeats every 80 ms (160 with low notes), a whole number of frames of a 25 Hz autoencoder: what
    does not change to the ear does not change in its latents, and a small model can learn it. Off by 20 cents on
    average and 55 at most, from 95 Hz on.
    """
    ideal = 440 * 2 ** ((pitch - 69) / 12)
    step = RASTER if ideal >= 300 else RASTER / 2
    return round(ideal / step) * step


@dataclass(frozen=True)
class Key:
    """A tonic (pitch class, 0 is C) and a mode."""

    tonic: int
    mode: str

    @property
    def name(self) -> str:
        """As players write it: `C# minor`."""
        return f"{_NAMES[self.tonic]} {self.mode}"

    def pitch(self, degree: int, octave: int = 0) -> int:
        """Semitones above C of a scale degree; degrees run on over the octaves."""
        return self.tonic + _SCALES[self.mode][degree % 7] + 12 * (degree // 7 + octave)


@dataclass(frozen=True)
class Meter:
    """A bar: how many beats it has, and into how many steps each is divided."""

    signature: int
    """The upper number of the time signature."""
    beats: int
    division: int

    @property
    def steps(self) -> int:
        """Steps in a bar."""
        return self.beats * self.division


FOUR, THREE, SIX = Meter(4, 4, 4), Meter(3, 3, 4), Meter(6, 2, 3)


@dataclass(frozen=True)
class Chord:
    """A triad or seventh chord on a degree of a key."""

    root: int
    """Pitch class of the root."""
    tones: tuple[int, ...]
    """Pitch classes, root first."""


def chord(key: Key, degree: int, seventh: bool) -> Chord:
    """The chord on a scale degree; the dominant of a minor key gets its leading tone."""
    tones = [key.pitch(degree + step) % 12 for step in ((0, 2, 4, 6) if seventh else (0, 2, 4))]
    if key.mode == "minor" and degree == 4:
        tones[1] = (key.tonic + 11) % 12
    return Chord(tones[0], tuple(tones))


def progression(rng: np.random.Generator, key: Key, bars: int, seventh: bool) -> list[Chord]:
    """One chord a bar: a functional pattern, repeated, that comes to rest on the tonic."""
    patterns = _PROGRESSIONS[key.mode]
    pattern = patterns[rng.integers(len(patterns))]
    degrees = [pattern[bar % len(pattern)] for bar in range(bars)]
    if bars > 1:
        degrees[-1] = 0
    return [chord(key, degree, seventh) for degree in degrees]


def voicings(chords: list[Chord], centre: int) -> list[list[int]]:
    """MIDI pitches of each chord, every voice moving as little as it can, around MIDI pitch `centre`."""
    voiced: list[list[int]] = []
    for current in chords:
        candidates = _inversions(current, centre)
        target = voiced[-1] if voiced else [centre - 4, centre, centre + 4, centre + 7][: len(candidates[0])]
        voiced.append(min(candidates, key=lambda notes: _movement(notes, target) + abs(np.mean(notes) - centre)))
    return voiced


def _inversions(current: Chord, centre: int) -> list[list[int]]:
    candidates = []
    for turn in range(len(current.tones)):
        tones = current.tones[turn:] + current.tones[:turn]
        for lowest in range(centre - 12, centre + 1):
            if lowest % 12 == tones[0]:
                notes = [lowest]
                for tone in tones[1:]:
                    notes.append(notes[-1] + (tone - notes[-1]) % 12)
                candidates.append(notes)
    return candidates


def _movement(notes: list[int], previous: list[int]) -> float:
    return float(sum(abs(a - b) for a, b in zip(notes, previous, strict=True)))
