"""What each player of an arrangement does in a bar: notes on a grid of steps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from acetrain.data.synthesis.theory import Chord, Key, Meter


@dataclass(frozen=True)
class Note:
    """A note on the grid: its bar's step, length in steps, MIDI pitch, loudness in 0..1."""

    step: float
    length: float
    pitch: int
    velocity: float


@dataclass(frozen=True)
class Bar:
    """What a player sees of the bar it is in."""

    index: int
    last: bool
    meter: Meter
    key: Key
    chord: Chord
    voicing: list[int]
    motif: "Motif"


@dataclass(frozen=True)
class Motif:
    """A rhythmic and melodic idea that returns over changing chords: (step, length, scale steps from the start)."""

    notes: tuple[tuple[int, int, int], ...]


Player = Callable[[Bar, np.random.Generator], list[Note]]


def motif(rng: np.random.Generator, meter: Meter, density: float) -> Motif:
    """A bar's worth of melody; `density` in 0..1 is the chance of a note on a weak step of the grid."""
    grid = max(1, meter.division // 2)
    onsets = [
        step
        for step in range(0, meter.steps, grid)
        if step == 0 or rng.random() < (min(1.0, density + 0.3) if step % meter.division == 0 else density)
    ]
    degrees, degree = [], 0
    for _ in onsets:
        degrees.append(degree)
        degree = int(np.clip(degree + rng.choice([-2, -1, -1, 1, 1, 2]), -4, 5))
    ends = [*onsets[1:], meter.steps]
    return Motif(tuple((on, end - on, deg) for on, end, deg in zip(onsets, ends, degrees, strict=True)))


def sustained(bar: Bar, rng: np.random.Generator) -> list[Note]:
    """The chord, held for the bar."""
    return [Note(0, bar.meter.steps, pitch, 0.7) for pitch in bar.voicing]


def stabs(bar: Bar, rng: np.random.Generator) -> list[Note]:
    """The chord in short strokes after each beat."""
    if bar.last:
        return sustained(bar, rng)
    offset = bar.meter.division // 2
    return [
        Note(beat * bar.meter.division + offset, offset, pitch, 0.6)
        for beat in range(bar.meter.beats)
        for pitch in bar.voicing
    ]


def arpeggio(every: int, octaves: int = 1) -> Player:
    """The chord's tones one after another, a note each `every` steps, up and down again."""

    def play(bar: Bar, rng: np.random.Generator) -> list[Note]:
        if bar.last:
            return sustained(bar, rng)
        up = [pitch + 12 * octave for octave in range(octaves) for pitch in bar.voicing]
        cycle = up + up[-2:0:-1]
        steps = range(0, bar.meter.steps, every)
        return [Note(s, every, cycle[i % len(cycle)], 0.75 if s == 0 else 0.55) for i, s in enumerate(steps)]

    return play


def bass(every: int, octave: bool = False, low: int = 36) -> Player:
    """The root each `every` steps, in turn with its octave or fifth; 0 holds it for the bar."""

    def play(bar: Bar, rng: np.random.Generator) -> list[Note]:
        root = low + (bar.chord.root - low) % 12
        if every == 0 or bar.last:
            return [Note(0, bar.meter.steps, root, 0.8)]
        other = root + (12 if octave else 7)
        steps = range(0, bar.meter.steps, every)
        return [Note(s, 0.85 * every, other if i % 4 == 3 else root, 0.8) for i, s in enumerate(steps)]

    return play


def melody(low: int, rest: float) -> Player:
    """The motif over this bar's chord: strong steps take chord tones; every fourth bar rests with chance `rest`."""

    def play(bar: Bar, rng: np.random.Generator) -> list[Note]:
        if bar.last:
            return [Note(0, bar.meter.steps, _chord_tone(low + 7, bar.chord), 0.85)]
        if bar.index % 4 == 3 and rng.random() < rest:
            return []
        start = _nearest_degree(bar.key, _chord_tone(low + 6, bar.chord))
        notes = []
        for step, length, degree in bar.motif.notes:
            pitch = bar.key.pitch(start + degree)
            if step % bar.meter.division == 0:
                pitch = _chord_tone(pitch, bar.chord)
            notes.append(Note(step, 0.92 * length, pitch, 0.9 if step == 0 else 0.75))
        return notes

    return play


def beat(*steps: int, velocity: float = 0.9, pitch: int = 36, chance: float = 1.0) -> Player:
    """A drum on the given steps of the bar; in the last bar only on its first."""

    def play(bar: Bar, rng: np.random.Generator) -> list[Note]:
        wanted = [step for step in steps if step < bar.meter.steps and rng.random() < chance]
        return [Note(s, 1, pitch, velocity * rng.uniform(0.85, 1)) for s in wanted if not bar.last or s == 0]

    return play


def pulse(every: int, velocity: float) -> Player:
    """A drum each `every` steps, the beats a little louder."""

    def play(bar: Bar, rng: np.random.Generator) -> list[Note]:
        if bar.last:
            return []
        strong = bar.meter.division
        return [
            Note(step, 1, 60, velocity * (1.0 if step % strong == 0 else 0.65))
            for step in range(0, bar.meter.steps, every)
        ]

    return play


def _chord_tone(pitch: int, chord: Chord) -> int:
    """The chord's tone nearest to `pitch`."""
    return min(range(pitch - 6, pitch + 7), key=lambda near: (near % 12 not in chord.tones, abs(near - pitch), near))


def _nearest_degree(key: Key, pitch: int) -> int:
    return min(range(0, 77), key=lambda degree: abs(key.pitch(degree) - pitch))
