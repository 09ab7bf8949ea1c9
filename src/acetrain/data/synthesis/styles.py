"""The styles: who plays what, how fast, in which meters and modes."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from acetrain.data.synthesis import instruments as sound
from acetrain.data.synthesis import parts
from acetrain.data.synthesis.theory import FOUR, SIX, THREE, Meter


@dataclass(frozen=True)
class Part:
    """One player with an instrument, its loudness and place (-1 left, 1 right), and how often it takes part at all."""

    play: parts.Player
    instrument: sound.Instrument
    level: float
    place: float = 0.0
    chance: float = 1.0


@dataclass(frozen=True)
class Style:
    """What songs of a style have in common."""

    words: tuple[str, ...]
    """What a caption calls it."""
    colours: tuple[str, ...]
    """Adjectives for captions."""
    bpm: tuple[int, int]
    meters: tuple[Meter, ...]
    minor: float
    """Share of songs in a minor key."""
    sevenths: float
    """Share of songs whose chords are sevenths."""
    swing: float
    """Most delay of an off-beat step, in steps."""
    density: float
    """How busy the lead is, 0..1."""
    centre: int
    """MIDI pitch around which chords are voiced."""
    reverb: tuple[float, float]
    """Decay in seconds, share of the mix."""
    backing: tuple[Part, ...]
    leads: tuple[Part, ...]
    """Instruments of the lead: a song has one of them."""
    sings: float
    """Share of songs whose lead is sung."""


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "chiptune": Style(
            words=("chiptune", "8-bit video game music"),
            colours=("bright", "playful", "fast", "retro"),
            bpm=(126, 168),
            meters=(FOUR,),
            minor=0.4,
            sevenths=0.0,
            swing=0.0,
            density=0.75,
            centre=64,
            reverb=(0.1, 0.0),
            backing=(
                Part(parts.arpeggio(1), sound.pulse(0.125, 6.0), 0.30, -0.3),
                Part(parts.bass(2, octave=True, low=43), sound.triangle, 0.62),
                Part(parts.beat(0, 8), sound.kick, 0.55),
                Part(parts.beat(4, 12), sound.noise(700, 7000, 26), 0.30),
                Part(parts.pulse(2, 0.5), sound.noise(4000, 12000, 60), 0.10, 0.2, 0.7),
            ),
            leads=(
                Part(parts.melody(70, 0.2), sound.pulse(0.5, 1.0), 0.42, 0.2),
                Part(parts.melody(72, 0.2), sound.pulse(0.25, 1.5), 0.42, 0.2),
            ),
            sings=0.0,
        ),
        "piano": Style(
            words=("solo piano", "piano ballad"),
            colours=("gentle", "intimate", "romantic", "calm"),
            bpm=(66, 104),
            meters=(FOUR, THREE),
            minor=0.5,
            sevenths=0.4,
            swing=0.12,
            density=0.4,
            centre=57,
            reverb=(0.9, 0.16),
            backing=(
                Part(parts.arpeggio(2), sound.piano, 0.42, -0.15),
                Part(parts.bass(0, low=43), sound.piano, 0.55, -0.2),
            ),
            leads=(Part(parts.melody(70, 0.3), sound.piano, 0.7, 0.15),),
            sings=0.25,
        ),
        "synthwave": Style(
            words=("synthwave", "80s electronic"),
            colours=("driving", "neon", "dark", "nostalgic"),
            bpm=(88, 118),
            meters=(FOUR,),
            minor=0.85,
            sevenths=0.0,
            swing=0.0,
            density=0.35,
            centre=60,
            reverb=(0.7, 0.14),
            backing=(
                Part(parts.sustained, sound.saw(1600, 0.06, 0.25), 0.26, -0.2),
                Part(parts.bass(2, octave=True, low=43), sound.saw(700, 0.004, 0.04), 0.72),
                Part(parts.beat(0, 4, 8, 12), sound.kick, 0.85),
                Part(parts.beat(4, 12, pitch=55), sound.snare, 0.42),
                Part(parts.pulse(2, 0.5), sound.noise(5000, 12000, 45), 0.10, 0.25, 0.8),
            ),
            leads=(Part(parts.melody(69, 0.4), sound.saw(3200, 0.02, 0.12), 0.42, 0.15),),
            sings=0.3,
        ),
        "ambient": Style(
            words=("ambient", "drone soundscape"),
            colours=("slow", "floating", "spacious", "dreamy"),
            bpm=(56, 76),
            meters=(FOUR, THREE),
            minor=0.5,
            sevenths=0.8,
            swing=0.0,
            density=0.12,
            centre=60,
            reverb=(2.2, 0.4),
            backing=(
                Part(parts.sustained, sound.pad, 0.5),
                Part(parts.bass(0, low=43), sound.sine, 0.5),
            ),
            leads=(Part(parts.melody(76, 0.5), sound.bell, 0.3, 0.3),),
            sings=0.15,
        ),
        "marimba": Style(
            words=("marimba", "mallet ensemble"),
            colours=("woody", "dancing", "warm", "rolling"),
            bpm=(92, 126),
            meters=(SIX,),
            minor=0.3,
            sevenths=0.3,
            swing=0.1,
            density=0.7,
            centre=60,
            reverb=(0.35, 0.08),
            backing=(
                Part(parts.arpeggio(1), sound.marimba, 0.5, -0.3),
                Part(parts.bass(3, low=43), sound.marimba, 0.8),
                Part(parts.pulse(1, 0.6), sound.noise(3500, 7500, 38, 0.012), 0.16, 0.3),
            ),
            leads=(Part(parts.melody(72, 0.2), sound.marimba, 0.75, 0.25),),
            sings=0.15,
        ),
    }
)
"""Every style by name."""
