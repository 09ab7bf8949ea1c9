"""Timbres: one note of an instrument as a mono waveform at 48 kHz."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from acetrain.keyed import seed_of

RATE = 48000
"""Samples a second of everything composed here."""

Wave = NDArray[np.float32]
Instrument = Callable[[float, float, float], Wave]
"""(frequency in Hz, held seconds, start in the song in seconds) -> waveform, release included.

Oscillators run freely from the song's start, so that a pitch has the same phase wherever it is played.
"""

_VOWELS = {
    "a": ((730, 1.0), (1090, 0.5), (2440, 0.1)),
    "e": ((530, 1.0), (1840, 0.35), (2480, 0.12)),
    "i": ((290, 1.0), (2250, 0.3), (3000, 0.15)),
    "o": ((500, 1.0), (880, 0.4), (2540, 0.05)),
    "u": ((320, 1.0), (870, 0.25), (2240, 0.04)),
}
"""First three formants: centre in Hz and strength (Peterson and Barney, 1952, rounded)."""


def pulse(duty: float, decay: float) -> Instrument:
    """A pulse wave of the given duty, as in sound chips."""

    def play(hz: float, seconds: float, start: float) -> Wave:
        time = _time(seconds + 0.02)
        phase = (hz * (start + time)) % 1.0
        wave = np.where(phase < duty, 1.0, -1.0) + 1 - 2 * duty
        wave = wave + _step(phase, hz) - _step((phase - duty) % 1.0, hz)
        return _shaped(0.5 * wave * np.exp(-decay * time), seconds, 0.002, 0.015)

    return play


def triangle(hz: float, seconds: float, start: float) -> Wave:
    """A triangle wave: the bass of a sound chip."""
    phase = (hz * (start + _time(seconds + 0.02))) % 1.0
    return _shaped(2 * np.abs(2 * phase - 1) - 1, seconds, 0.002, 0.015)


def saw(cutoff: float, attack: float, release: float) -> Instrument:
    """A sawtooth through a low-pass at `cutoff` Hz."""
    sections = _filter("low", cutoff)

    def play(hz: float, seconds: float, start: float) -> Wave:
        time = _time(seconds + release)
        phase = (hz * (start + time)) % 1.0
        wave = 2 * phase - 1 - _step(phase, hz)
        return _shaped(np.asarray(sosfilt(sections, wave)), seconds, attack, release)

    return play


def piano(hz: float, seconds: float, start: float) -> Wave:
    """Struck strings: ten partials, the higher ones dying first."""
    number = np.arange(1.0, 11.0)
    wave = _partials(hz, seconds + 0.25, start, number, 1 / number**1.5, 0.8 + 0.55 * number)
    return _shaped(wave, seconds, 0.003, 0.25)


def marimba(hz: float, seconds: float, start: float) -> Wave:
    """A wooden bar tuned 1 : 4 : 10 over its resonator, with the mallet's knock."""
    ring = max(seconds, 0.45)
    wave = _partials(
        hz, ring, start, np.array([1.0, 4.0, 10.0]), np.array([1.0, 0.45, 0.2]), np.array([6.0, 17.0, 40.0])
    )
    return _shaped(wave, ring - 0.05, 0.001, 0.05)


def bell(hz: float, seconds: float, start: float) -> Wave:
    """A soft bell with a long ring."""
    ratios = np.array([1.0, 2.0, 3.0, 4.0])
    wave = _partials(
        hz, seconds + 1.0, start, ratios, np.array([1.0, 0.35, 0.25, 0.12]), np.array([1.2, 1.8, 2.6, 4.0])
    )
    return _shaped(wave, seconds, 0.01, 1.0)


def pad(hz: float, seconds: float, start: float) -> Wave:
    """Slow, breathing partials that swell and fade."""
    release = 1.2
    time = _time(seconds + release)
    wave = np.zeros_like(time)
    for number in range(1, 6):
        slow = 1 + 0.25 * np.sin(2 * np.pi * 0.07 * number * (start + time))
        wave += slow * np.sin(2 * np.pi * hz * number * (start + time)) / number**1.8
    return _shaped(0.6 * wave, seconds, min(0.9, 0.5 * seconds), release)


def sine(hz: float, seconds: float, start: float) -> Wave:
    """A plain low tone with a touch of its octave."""
    time = _time(seconds + 0.1)
    angle = 2 * np.pi * hz * (start + time)
    return _shaped(np.sin(angle) + 0.15 * np.sin(2 * angle), seconds, 0.02, 0.1)


@cache
def voice(vowel: str) -> Instrument:
    """A sung vowel: harmonics under three formants, with a tremolo."""

    def play(hz: float, seconds: float, start: float) -> Wave:
        time = _time(seconds + 0.08)
        phase = hz * (start + time)
        wave = np.zeros_like(time)
        for number in range(1, int(min(24, 3600 / hz)) + 1):
            level = sum(s / (1 + ((number * hz - centre) / 110) ** 2) for centre, s in _VOWELS[vowel])
            wave += (level + 0.02) / number**0.5 * np.sin(2 * np.pi * number * phase)
        tremolo = 1 + 0.15 * np.sin(2 * np.pi * 5 * (start + time))
        return _shaped(tremolo * wave, seconds, 0.04, 0.08)

    return play


def kick(hz: float, seconds: float, start: float) -> Wave:
    """A drum whose pitch falls to `hz`."""
    time = _time(0.28)
    return _shaped(np.sin(2 * np.pi * (hz * time - 2.2 * np.exp(-28 * time))) * np.exp(-9 * time), 0.25, 0.001, 0.03)


@cache
def noise(low: float, high: float, decay: float, attack: float = 0.001) -> Instrument:
    """A burst of noise between two frequencies in Hz, as from a drum machine: every stroke the same."""
    time = _time(min(5.0 / decay, 0.4) + attack)
    source = np.random.default_rng(seed_of("noise", str((low, high, decay)))).standard_normal(len(time))
    burst = np.asarray(sosfilt(_filter("band", low, high), source)) * np.exp(-decay * time)
    stroke = _shaped(burst, float(time[-1]) - 0.005, attack, 0.005)

    def play(hz: float, seconds: float, start: float) -> Wave:
        return stroke

    return play


def snare(hz: float, seconds: float, start: float) -> Wave:
    """Noise over a short tone of `hz`."""
    burst = noise(1200, 6500, 18)(hz, seconds, start)
    time = _time(len(burst) / RATE)
    return (0.8 * burst + 0.5 * np.sin(2 * np.pi * hz * time) * np.exp(-25 * time)).astype(np.float32)


def _time(seconds: float) -> NDArray[np.float64]:
    return np.arange(max(1, round(seconds * RATE))) / RATE


def _partials(
    hz: float,
    seconds: float,
    start: float,
    ratios: NDArray[np.float64],
    levels: NDArray[np.float64],
    decays: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A sum of decaying sines: ratio to `hz`, level, and decay in 1/s of each."""
    time = _time(seconds)
    wave = np.zeros_like(time)
    for ratio, level, decay in zip(ratios, levels, decays, strict=True):
        if ratio * hz < 0.45 * RATE:
            wave += level * np.exp(-decay * time) * np.sin(2 * np.pi * ratio * hz * (start + time))
    return wave


def _shaped(wave: NDArray[np.float64], seconds: float, attack: float, release: float) -> Wave:
    """Fade in over `attack` s, hold, and fade out over the `release` s that follow `seconds`."""
    time = np.arange(len(wave)) / RATE
    rise = np.minimum(1.0, time / attack)
    fall = np.clip((seconds + release - time) / release, 0.0, 1.0)
    return (wave * rise * fall**1.5).astype(np.float32)


def _step(phase: NDArray[np.float64], hz: float) -> NDArray[np.float64]:
    """The polynomial that rounds a unit step at phase 0, so that it does not alias (PolyBLEP)."""
    width = hz / RATE
    before, after = phase / width, (phase - 1) / width
    return np.where(before < 1, 2 * before - before**2 - 1, np.where(after > -1, after**2 + 2 * after + 1, 0.0))


@cache
def _filter(kind: str, *edges: float) -> NDArray[np.float64]:
    return np.asarray(butter(2, list(edges) if kind == "band" else edges[0], btype=kind, fs=RATE, output="sos"))


def low_pass(edge: float) -> NDArray[np.float64]:
    """Second-order sections of a low-pass at `edge` Hz."""
    return _filter("low", edge)
