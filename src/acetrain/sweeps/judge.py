"""What stands between a training and the trial of a search that it is."""

import sys
from collections.abc import Mapping
from pathlib import Path

from acetrain.errors import Failed
from acetrain.sweeps.search import Metric
from acetrain.sweeps.study import Claim, Trials
from acetrain.tracking.table import as_written, read
from acetrain.training.run_folder import newest_step


class Judge:
    """Reports a run's held-out losses, and tells whether it is to end.

    A storage that cannot be reached ends no run: the losses stand in the run's folder, and are reported later.
    """

    def __init__(self, trials: Trials, claim: Claim, metric: Metric) -> None:
        self.trials, self.claim, self.metric = trials, claim, metric
        self._lost = False

    def __call__(self, step: int, losses: Mapping[str, float]) -> bool:
        """Whether the run is to end after this step, which is not its last; `losses` by their columns."""
        if self._lost:
            return False
        try:
            return self._hopeless(step, as_written(losses[self.metric.name]))
        except Failed as failure:
            self._lost = True
            print(f"{failure}\nthis run goes on without being judged", file=sys.stderr, flush=True)
            return False

    def _hopeless(self, step: int, loss: float) -> bool:
        self.trials.report(self.claim, step, loss)
        return self.trials.hopeless(self.claim, step)

    def catch_up(self, folder: Path, steps: int) -> bool:
        """Report what a run has done already; whether it would have ended on the way. One that has come to its last
        step of `steps` is not ended any more. Raises Failed where the storage cannot be reached."""
        done = newest_step(folder) >= steps
        return any(self._hopeless(step, loss) and not done for step, loss in curve(folder, self.metric))


def curve(folder: Path, metric: Metric) -> list[tuple[int, float]]:
    """The held-out losses of a run up to its newest checkpoint, with the step of each."""
    newest = newest_step(folder)
    rows = [(int(row["step"]), row.get(metric.name)) for row in read(folder / "metrics.csv")]
    return [(step, float(loss)) for step, loss in rows if loss and step <= newest]
