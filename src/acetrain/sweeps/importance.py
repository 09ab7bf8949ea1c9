"""How much each key of a sweep matters: the share of the variance between settings that it explains by itself.

The main effects of a functional ANOVA (Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach for Assessing
Hyperparameter Importance"), without a model in between where the grid is full: there the mean of the settings with a
value, less the mean of all, is the effect of that value, and effects of different keys are orthogonal. On any other
set of settings keys overlap; then an additive model is fitted by least squares, and what it explains is shared among
the keys by the average over the orders in which they can be added (Lindeman, Merenda, Gold 1980; the Shapley value of
R squared). On a full grid that is the same figure.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.linalg import lstsq

from acetrain.sweeps.results import Setting

LEVELS = 6
"""A key of numbers with more values than this, in no full grid, has a curve of second degree over their order instead
of an effect each."""
ALL_ORDERS = 5
"""Most keys of which every order is looked at; of more, `ORDERS` random ones."""
ORDERS = 200
Matrix = Float[np.ndarray, "setting column"]


@dataclass(frozen=True)
class Importance:
    """The variance between settings, shared out."""

    shares: Mapping[str, float]
    """Key -> share of the variance, in [0, 1], the largest first."""
    together: float
    """Share that no key explains by itself: keys that matter in combination, and noise."""
    noise: float
    """Share that the seeds alone would give the means; NaN where no setting has two finished runs."""
    exact: bool
    """Whether the settings are a full grid."""


def importance(settings: Sequence[Setting], keys: Sequence[str]) -> Importance | None:
    """The importance of each key over the finished settings; None where too few differ to tell keys apart."""
    finished = [setting for setting in settings if setting.losses]
    means = np.array([setting.mean for setting in finished])
    if len(finished) < 2 or not float(np.var(means)) > 0:
        return None
    full = _is_full(finished, keys)
    columns = {key: _columns([setting.values.get(key) for setting in finished], full) for key in keys}
    used = {key: matrix for key, matrix in columns.items() if matrix.shape[1]}
    wanted = 1 + sum(matrix.shape[1] for matrix in used.values())
    if not used or (len(finished) <= wanted and not full):
        return None
    found = _shared(used, means - means.mean())
    shares = {key: found.get(key, 0.0) for key in keys}
    ordered = dict(sorted(shares.items(), key=lambda share: -share[1]))
    return Importance(ordered, max(0.0, 1 - math.fsum(shares.values())), _noise(finished, means), full)


def _is_full(settings: Sequence[Setting], keys: Sequence[str]) -> bool:
    """Whether every combination of values is there."""
    levels = [{_text(setting.values.get(key)) for setting in settings} for key in keys]
    return math.prod(map(len, levels)) == len(settings)


def _columns(values: Sequence[Any], full: bool) -> Matrix:
    """What a key adds to an additive model, each column of mean 0; in a full grid always something for each value."""
    texts = [_text(value) for value in values]
    levels = sorted(set(texts))
    if not full and len(levels) > LEVELS and all(isinstance(value, int | float) for value in values):
        _, places = np.unique(np.array(values, dtype=float), return_inverse=True)
        order = places / places.max() - 0.5
        raw = np.stack([order, order**2], axis=1)
    else:
        raw = np.array([[text == level for level in levels[1:]] for text in texts], dtype=float)
        raw = raw.reshape(len(texts), len(levels) - 1)
    return raw - raw.mean(axis=0)


def _shared(columns: Mapping[str, Matrix], means: Float[np.ndarray, " setting"]) -> dict[str, float]:
    """Key -> what it adds to the explained share, on average over the orders of adding keys."""
    explained: dict[frozenset[str], float] = {frozenset(): 0.0}

    def share(chosen: frozenset[str]) -> float:
        if chosen not in explained:
            matrix = np.concatenate([columns[key] for key in sorted(chosen)], axis=1)
            left = means - matrix @ lstsq(matrix, means, rcond=None)[0]
            explained[chosen] = 1 - float(left @ left) / float(means @ means)
        return explained[chosen]

    added = dict.fromkeys(columns, 0.0)
    orders = _orders(sorted(columns))
    for order in orders:
        for place, key in enumerate(order):
            added[key] += share(frozenset(order[: place + 1])) - share(frozenset(order[:place]))
    return {key: min(1.0, max(0.0, total / len(orders))) for key, total in added.items()}


def _orders(keys: Sequence[str]) -> list[tuple[str, ...]]:
    if len(keys) <= ALL_ORDERS:
        return list(itertools.permutations(keys))
    drawn = np.random.default_rng(0)
    return [tuple(drawn.permutation(np.array(keys)).tolist()) for _ in range(ORDERS)]


def _noise(settings: Sequence[Setting], means: Float[np.ndarray, " setting"]) -> float:
    """The variance that the means have because of the seeds, as a share of theirs."""
    repeated = [np.array(setting.losses) for setting in settings if len(setting.losses) > 1]
    if not repeated:
        return math.nan
    within = float(np.mean([losses.var(ddof=1) / len(losses) for losses in repeated]))
    return min(1.0, within / float(np.var(means, ddof=1)))


def _text(value: Any) -> str:
    return json.dumps(value, default=str)
