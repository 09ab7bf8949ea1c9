"""A song: composed from a key of (seed, style, index), then played and mixed."""

from dataclasses import dataclass
from functools import cache
from itertools import cycle

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, sosfilt

from acetrain.data.synthesis import instruments, parts, text, theory
from acetrain.data.synthesis.instruments import RATE
from acetrain.data.synthesis.styles import STYLES, Part, Style
from acetrain.keyed import seed_of

_PEAK = 10 ** (-1 / 20)
_TAIL = 0.6


@dataclass(frozen=True)
class Song:
    """A composed song and what is known about it."""

    style: str
    audio: NDArray[np.float32]
    """[samples, 2] at 48 kHz, its peak at -1 dBFS."""
    caption: str
    lyrics: str
    bpm: int
    keyscale: str
    timesignature: str
    language: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.audio) / RATE


def compose(seed: int, style: str, index: int, min_seconds: float, max_seconds: float) -> Song:
    """Song `index` of a style (one of `STYLES`): the same for the same arguments, whatever else is composed."""
    rng = np.random.default_rng(seed_of("song", seed, style, index))
    chosen = STYLES[style]
    bpm = int(rng.integers(chosen.bpm[0], chosen.bpm[1] + 1))
    key = theory.Key(int(rng.integers(12)), "minor" if rng.random() < chosen.minor else "major")
    meter = chosen.meters[rng.integers(len(chosen.meters))]
    bar_seconds = meter.beats * 60 / bpm
    target = rng.uniform(min_seconds, max_seconds)
    bars = max(1, round((target - _TAIL) / bar_seconds))
    seconds = float(np.clip(bars * bar_seconds + _TAIL, min_seconds, max_seconds))
    sung = bool(rng.random() < chosen.sings)
    words = text.lyrics(rng, seconds) if sung else text.INSTRUMENTAL
    caption = text.caption(rng, chosen, key.mode, bpm, sung)
    score = _score(rng, chosen, key, meter, bars)
    audio = _mix(rng, chosen, score, meter, bar_seconds, seconds, words if sung else "")
    return Song(style, audio, caption, words, bpm, key.name, str(meter.signature), "en" if sung else "unknown")


def _score(rng: np.random.Generator, style: Style, key: theory.Key, meter: theory.Meter, bars: int) -> list[parts.Bar]:
    chords = theory.progression(rng, key, bars, bool(rng.random() < style.sevenths))
    voicings = theory.voicings(chords, style.centre)
    first, second = parts.motif(rng, meter, style.density), parts.motif(rng, meter, style.density)
    form = (first, first, second, first)
    return [
        parts.Bar(i, i == bars - 1 and bars > 1, meter, key, chords[i], voicings[i], form[i % 4]) for i in range(bars)
    ]


def _mix(
    rng: np.random.Generator,
    style: Style,
    score: list[parts.Bar],
    meter: theory.Meter,
    bar_seconds: float,
    seconds: float,
    words: str,
) -> NDArray[np.float32]:
    samples = round(seconds * RATE)
    mix = np.zeros((2, samples), np.float32)
    swing = rng.uniform(0, style.swing)
    lead = style.leads[rng.integers(len(style.leads))]
    playing = [part for part in style.backing if rng.random() < part.chance]
    for part in [*playing, lead]:
        vowels = words if part is lead else ""
        track = _play(rng, part, score, meter, bar_seconds, swing, samples, vowels)
        angle = (part.place + 1) * np.pi / 4
        mix += part.level * np.stack([np.cos(angle) * track, np.sin(angle) * track]).astype(np.float32)
    decay, wet = style.reverb
    if wet:
        room = np.stack([fftconvolve(mix[side], _room(decay)[side])[:samples] for side in (0, 1)])
        mix = (1 - wet) * mix + wet * room.astype(np.float32)
    fade = np.clip((samples - np.arange(samples)) / (0.3 * RATE), 0, 1) ** 1.5
    mix = mix * fade
    return np.ascontiguousarray((mix * (_PEAK / np.abs(mix).max())).T.astype(np.float32))


def _play(
    rng: np.random.Generator,
    part: Part,
    score: list[parts.Bar],
    meter: theory.Meter,
    bar_seconds: float,
    swing: float,
    samples: int,
    words: str,
) -> NDArray[np.float32]:
    """One part as a mono track; sung where there are words."""
    track = np.zeros(samples, np.float32)
    step_seconds = bar_seconds / meter.steps
    vowels = cycle(text.vowels(words))
    for bar in score:
        for note in part.play(bar, rng):
            late = swing if note.step % 2 == 1 and meter.division % 2 == 0 else 0.0
            start = round((bar.index * bar_seconds + (note.step + late) * step_seconds) * RATE)
            instrument = instruments.voice(next(vowels)) if words else part.instrument
            hz = theory.hertz(note.pitch - (12 if words else 0))
            wave = instrument(hz, note.length * step_seconds, start / RATE)[: max(0, samples - start)]
            track[start : start + len(wave)] += note.velocity * wave
    return track


@cache
def _room(decay: float) -> NDArray[np.float32]:
    """The impulse response of a room, [2, samples] of unit energy: darkened noise dying by 60 dB in `decay` s."""
    rng = np.random.default_rng(seed_of("room", str(decay)))
    time = np.arange(round(decay * RATE)) / RATE
    response = rng.standard_normal((2, len(time))) * np.exp(-6.9 / decay * time)
    response = np.asarray(sosfilt(instruments.low_pass(3500), response))
    return (response / np.sqrt((response**2).sum(axis=1, keepdims=True))).astype(np.float32)
