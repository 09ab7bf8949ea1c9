"""Successive halving that answers alike however often it is asked, so that a killed search ends as it would have."""

import math
from itertools import count

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


class Halving(BasePruner):
    """Asynchronous successive halving (Li et al. 2020) in its form that ends runs, as in Optuna's
    `SuccessiveHalvingPruner`.

    That one keeps in the storage which rungs a trial has come to while it decides, and a process killed between the
    two decides differently when it asks again. This one works it out from the losses reported.
    """

    def __init__(self, first: int, reduction: int) -> None:
        """Rungs at `first`, `first * reduction`, ... steps, from each of which one in `reduction` goes on."""
        self.first, self.reduction = first, reduction

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends at its last step: at a rung, and not among the best of those that have come there."""
        step = trial.last_step
        if step is None:
            return False
        for rung in count():
            at = self.first * self.reduction**rung
            if step < at:
                return False
            value = _at(trial, at)
            assert value is not None
            if min(reported for reported in trial.intermediate_values if reported >= at) == step:
                others = [_at(other, at) for other in study.get_trials(deepcopy=False) if other.number != trial.number]
                competing = sorted([value, *(other for other in others if other is not None and other == other)])
                goes_on = competing[max(len(competing) // self.reduction, 1) - 1]
                if math.isnan(value) or value > goes_on:
                    return True
        raise AssertionError("there are rungs without end")


def _at(trial: FrozenTrial, rung: int) -> float | None:
    """The loss at the first report at or after a rung; None where the trial has not come so far."""
    reached = [step for step in trial.intermediate_values if step >= rung]
    return trial.intermediate_values[min(reached)] if reached else None
