"""The trials of a search: asked for, reported and told by any number of processes."""

import copy
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from acetrain.errors import Failed, Refused
from acetrain.sweeps import storage
from acetrain.sweeps.proposing import pruner, sampler
from acetrain.sweeps.search import Axis, Search

BEGUN = "begun"
"""Attribute of a study: the digest of what its losses depend on, without which they would not be comparable."""
RUN = "run"
"""Attribute of a trial: the name of its run."""
AGAIN = "again"
"""Attribute of a trial: the number of the failed one that it repeats."""
WHY = "why"
"""Attribute of a failed trial: what it failed by."""

Values = Mapping[str, Any]
"""Key of the job -> value."""
RunOf = Callable[[Values], str]
"""The name of the run with these values; empty where there can be none."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on."""

    trial: Trial
    values: Values
    run: str
    """The name of its run; empty where its values are refused."""

    @property
    def number(self) -> int:
        return self.trial.number


@dataclass(frozen=True)
class Tally:
    """How far a search is."""

    asked: int
    """Trials asked for."""
    settled: int
    """Trials that came to an end, early ones included."""
    pruned: int
    """Those ended early."""
    failed: list[FrozenTrial]
    """Those that failed and were not repeated."""
    best: FrozenTrial | None
    """The one with the lowest loss of those that were not ended early."""

    @property
    def left(self) -> int:
        """Trials still to be made; what failed is made again."""
        return self.asked - self.settled

    def told(self) -> str:
        """In a line."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.settled} of {self.asked} trials done, {self.pruned} of them ended early{failed}"


class Trials:
    """A search's study.

    Its methods raise Failed where the storage cannot be reached. Nothing is lost by that: runs lie in their folders.
    """

    def __init__(self, search: Search, whole: frozenset[str], name: str, folder: Path, begun: str) -> None:
        """Open the study `name`, or begin it; `whole` are the keys that take whole numbers, `folder` holds
        what is the search's own, and is the same for all processes.

        Raises Refused where the storage cannot be opened, or holds a study begun with another `begun`.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.search, self.folder, self._whole = search, folder, whole
        folder.mkdir(parents=True, exist_ok=True)
        self.where = search.storage or str(folder / "journal")
        try:
            with self.alone():
                self._study = optuna.create_study(
                    study_name=name,
                    storage=storage.opened(self.where),
                    sampler=sampler(search.sampler, search.seed),
                    pruner=pruner(search.pruner),
                    load_if_exists=True,
                )
                known = self._study.user_attrs.get(BEGUN, begun)
                self._study.set_user_attr(BEGUN, known)
        except (*storage.LOST, ImportError) as error:
            raise Refused(
                f"search.storage: {storage.shown(self.where)} cannot be opened: {storage.reason(error, self.where)}"
            ) from error
        if known != begun:
            raise Refused(
                f"search: {storage.shown(self.where)} holds a search '{name}' of another space, other settings or "
                "other songs, whose losses are not comparable\ngive the sweep's file another name, or remove that one"
            )

    def all(self) -> list[FrozenTrial]:
        """Every trial, by its number."""
        with self._reached():
            return self._study.get_trials(deepcopy=False)

    def tally(self) -> Tally:
        """How far the search is."""
        trials = self.all()
        of = {state: [trial for trial in trials if trial.state is state] for state in TrialState}
        best = min(of[TrialState.COMPLETE], key=lambda trial: trial.value or 0.0, default=None)
        settled = len(of[TrialState.COMPLETE]) + len(of[TrialState.PRUNED])
        return Tally(self.search.trials, settled, len(of[TrialState.PRUNED]), _failed(trials), best)

    def elsewhere(self) -> int:
        """How many trials other processes are at, or take up once they are done with the same values."""
        with self.alone(), ExitStack() as tried:
            running = self._running()
            runs = {trial.user_attrs.get(RUN) for trial in running if not self._hold(trial.number, tried)}
        return sum(trial.user_attrs.get(RUN) in runs for trial in running)

    def told(self, number: int) -> str:
        """How a trial ended, and which is the best so far, in a line."""
        trials = self.all()
        trial, best = trials[number], self.tally().best
        step = f" after {trial.last_step} steps" if trial.last_step else ""
        ends = {
            TrialState.COMPLETE: f"{self.search.metric.name} {trial.value or 0.0:.6g}{step}",
            TrialState.PRUNED: f"ended early{step}",
            TrialState.FAIL: f"failed: {trial.user_attrs.get(WHY, '')}",
        }
        so_far = f"; best {best.value:.6g}, trial {best.number + 1}" if best is not None else ""
        return f"trial {number + 1} of {self.search.trials}: {ends.get(trial.state, 'not done')}{so_far}"

    def repeat_failed(self) -> None:
        """Put every trial that failed, and was not repeated since, in line again, unless other processes are at work,
        which may have just seen it fail."""
        with self.alone():
            with ExitStack() as tried:
                at_work = [trial for trial in self._running() if not self._hold(trial.number, tried)]
            with self._reached():
                for trial in [] if at_work else _failed(self.all()):
                    self._study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})

    @contextmanager
    def claimed(self, run_of: RunOf) -> Iterator[Claim | None]:
        """The next trial to work on, this process's own within the context; None where there is none.

        That is one left by a process that ended in it, else a new one. One whose run another process works on, as it
        has the same values, is left for later.
        """
        with ExitStack() as lock:
            with self.alone():
                claim = self._left(lock, run_of) or self._new(lock, run_of)
            yield claim

    def _left(self, lock: ExitStack, run_of: RunOf) -> Claim | None:
        """A trial whose process ended in it."""
        running = self._running()
        with ExitStack() as tried:
            free = [trial for trial in running if self._hold(trial.number, tried)]
            busy = {trial.user_attrs.get(RUN) for trial in running if trial not in free}
        for trial in free:
            if trial.user_attrs.get(RUN) not in busy:
                self._hold(trial.number, lock)
                with self._reached():
                    again = Trial(self._study, trial._trial_id)
                return self._asked(again, run_of)
        return None

    def _new(self, lock: ExitStack, run_of: RunOf) -> Claim | None:
        """A trial that was not begun."""
        while self._more():
            busy = {trial.user_attrs.get(RUN) for trial in self._running()}
            with self._reached():
                trial = self._study.ask()
            claim = self._asked(trial, run_of)
            if not claim.run or claim.run not in busy:
                self._hold(claim.number, lock)
                return claim
        return None

    def _running(self) -> list[FrozenTrial]:
        with self._reached():
            return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _more(self) -> bool:
        trials = self.all()
        waiting = any(trial.state is TrialState.WAITING for trial in trials)
        return waiting or sum(AGAIN not in trial.user_attrs for trial in trials) < self.search.trials

    def _asked(self, trial: Trial, run_of: RunOf) -> Claim:
        """A trial with a value of every key; those it has already are kept."""
        with self._reached():
            values = {key: axis.value(self._suggested(trial, key, axis)) for key, axis in self.search.space.items()}
        run = run_of(values)
        with self._reached():
            trial.set_user_attr(RUN, run)
        return Claim(trial, values, run)

    def _suggested(self, trial: Trial, key: str, axis: Axis) -> Any:
        if axis.choices is not None:
            return trial.suggest_categorical(key, axis.labels)
        low, high = axis.ends
        if key in self._whole:
            return trial.suggest_int(key, int(low), int(high), step=int(axis.step or 1), log=axis.log)
        return trial.suggest_float(key, low, high, step=axis.step, log=axis.log)

    def _hold(self, number: int, stack: ExitStack) -> bool:
        """Keep others from a trial until `stack` is closed; False where another process does so."""
        file = (self.folder / f"trial-{number}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        stack.enter_context(file)
        return True

    def report(self, claim: Claim, step: int, loss: float) -> None:
        """Tell a held-out loss, unless that of this step is known."""
        with self._reached():
            if step not in self._frozen(claim).intermediate_values:
                claim.trial.report(loss, step)

    def hopeless(self, claim: Claim, step: int) -> bool:
        """Whether the trial is to end at a step that was reported, as what was reported later were not known."""
        with self._reached():
            then = copy.copy(self._frozen(claim))
            then.intermediate_values = {at: loss for at, loss in then.intermediate_values.items() if at <= step}
            return self._study.pruner.prune(self._study, then)

    def _frozen(self, claim: Claim) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[claim.number]

    def complete(self, claim: Claim, loss: float) -> None:
        """Tell how small the loss became."""
        with self._reached():
            self._study.tell(claim.number, loss)

    def pruned(self, claim: Claim) -> None:
        """Tell that the trial was ended early."""
        with self._reached():
            self._study.tell(claim.number, state=TrialState.PRUNED)

    def failed(self, claim: Claim, why: str) -> None:
        """Tell that the trial failed."""
        with self._reached():
            claim.trial.set_user_attr(WHY, why)
            self._study.tell(claim.number, state=TrialState.FAIL)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other process of the search asks for a trial, or changes the sweep's record."""
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except storage.LOST as error:
            raise Failed(
                f"search.storage: {storage.shown(self.where)} cannot be used: {storage.reason(error, self.where)}\n"
                "the runs are kept; the same command goes on when it is back"
            ) from error


def _failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that failed and were not repeated."""
    repeated = {trial.user_attrs.get(AGAIN) for trial in trials}
    return [trial for trial in trials if trial.state is TrialState.FAIL and trial.number not in repeated]
