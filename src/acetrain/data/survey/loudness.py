"""How loud a song is, measured while it goes by: ITU-R BS.1770-4, without holding the song."""

import math

import numpy as np
from jaxtyping import Float, Float32
from pyloudnorm.iirfilter import IIRfilter
from scipy.signal import sosfilt

_HOPS_PER_SECOND = 10
_HOPS = 4
"""A gating block of 400 ms is four hops of 100 ms; the next one starts a hop later."""
_ABSOLUTE = -70.0
"""LUFS below which a block does not count."""
_RELATIVE = -10.0
"""LU below the mean of what is left where a block does not count either."""


class Loudness:
    """Integrated loudness of samples that arrive in blocks of any length.

    A mono song is heard on both channels, as training hears it: 3 LU above what one loudspeaker would give.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._rate, self._gain = rate, 2 / channels
        self._filter = _k_weighting(rate)
        self._state = np.zeros((len(self._filter), 2, channels))
        self._energies: list[float] = []
        """Sum of squares over each whole hop and all channels."""
        self._rest = np.zeros(0)
        """Squares of the samples since the last whole hop."""

    def add(self, block: Float32[np.ndarray, "sample channel"]) -> None:
        """Hear the samples that come next."""
        weighted, self._state = sosfilt(self._filter, block.astype(np.float64), axis=0, zi=self._state)
        squares = np.concatenate([self._rest, np.square(weighted).sum(axis=1)])
        start = 0
        while (end := start + self._length(len(self._energies))) <= len(squares):
            self._energies.append(float(squares[start:end].sum()))
            start = end
        self._rest = squares[start:]

    def integrated(self) -> float | None:
        """LUFS of all that was heard; None below 400 ms and where no block is above -70 LUFS."""
        if len(self._energies) < _HOPS:
            return None
        energy = np.convolve(self._energies, np.ones(_HOPS), "valid")
        power = self._gain * energy / (_HOPS * self._rate / _HOPS_PER_SECOND)
        heard = power[power >= _power(_ABSOLUTE)]
        if not len(heard):
            return None
        return _lufs(float(heard[heard > heard.mean() * 10 ** (_RELATIVE / 10)].mean()))

    def _length(self, hop: int) -> int:
        """Samples of a hop; they differ by one where the rate is no multiple of ten."""
        return (hop + 1) * self._rate // _HOPS_PER_SECOND - hop * self._rate // _HOPS_PER_SECOND


def _k_weighting(rate: int) -> Float[np.ndarray, "2 6"]:
    """The two filters of the recommendation's Annex 1, for any rate by De Man's formulas, as second-order sections."""
    shelf = IIRfilter(3.99984385397, 0.7071752369554193, 1681.9744509555319, rate, "high_shelf_DeMan")
    high_pass = IIRfilter(0.0, 0.5003270373253953, 38.13547087613982, rate, "high_pass_DeMan")
    return np.array([[*each.b, *each.a] for each in (shelf, high_pass)])


def _power(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _lufs(power: float) -> float:
    return 10 * math.log10(power) - 0.691
