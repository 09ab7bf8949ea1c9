"""Successive halving: Optuna's decisions, and the same ones when asked again."""

import copy

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from acetrain.sweeps.halving import Halving


def search(pruner: BasePruner, seed: int, asked: int = 1) -> list[int]:
    """The steps at which 30 trials with losses of their own end, by the last of several answers at each step."""
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(0))
    draw = np.random.default_rng(seed)
    for _ in range(30):
        trial = study.ask()
        for step, loss in enumerate(draw.normal(size=30), 1):
            trial.report(float(loss), 3 * step)
            if [trial.should_prune() for _ in range(asked)][-1]:
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.0)
    return [trial.last_step or 0 for trial in study.trials]


@pytest.mark.parametrize("reduction", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_decides_as_optunas_does(seed, reduction):
    ends = search(Halving(7, reduction), seed)
    assert ends == search(SuccessiveHalvingPruner(7, reduction), seed)
    assert len(set(ends)) > 2


def test_decides_alike_when_asked_again():
    assert search(Halving(7, 3), 0, asked=2) == search(Halving(7, 3), 0)
    assert search(SuccessiveHalvingPruner(7, 3), 0, asked=2) != search(SuccessiveHalvingPruner(7, 3), 0)


def test_a_loss_that_is_no_number_ends_a_trial_at_its_first_rung():
    study = optuna.create_study(pruner=Halving(2, 2))
    trial = study.ask()
    trial.report(float("nan"), 1)
    assert not trial.should_prune()
    trial.report(float("nan"), 2)
    assert trial.should_prune()
    told = copy.copy(study.trials[0])
    told.intermediate_values = {}
    assert not Halving(2, 2).prune(study, told)
