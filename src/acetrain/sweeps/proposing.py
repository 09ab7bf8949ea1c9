"""What proposes the values of a search's trials, and what ends them early: Optuna's, such that a trial is its own."""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from acetrain.keyed import seed_of
from acetrain.sweeps.halving import Halving
from acetrain.sweeps.search import Pruner, Sampler, Stopping


class Keyed(BaseSampler):
    """A sampler whose draws belong to the trial's number and the key drawn for, not to what this process drew before.

    A search that is started again proposes for a trial what it would have proposed undisturbed.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        """Draws by `make(seed)`, made anew for each draw."""
        self._make, self._seed = make, seed

    def _fresh(self, trial: FrozenTrial, key: str) -> BaseSampler:
        return self._make(seed_of(self._seed, trial.number, key) % 2**32)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._joint = self._fresh(trial, "")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._joint.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


def sampler(kind: Sampler, seed: int) -> Keyed:
    """What proposes values."""
    if kind is Sampler.random:
        return Keyed(lambda own: RandomSampler(own), seed)
    return Keyed(lambda own: TPESampler(seed=own), seed)


def pruner(option: Pruner) -> BasePruner:
    """What tells whether a trial ends at its last reported step."""
    if option.kind is Stopping.asha:
        return Halving(option.min_steps, option.reduction)
    if option.kind is Stopping.median:
        return MedianPruner(n_startup_trials=option.startup, n_warmup_steps=option.min_steps)
    return NopPruner()
