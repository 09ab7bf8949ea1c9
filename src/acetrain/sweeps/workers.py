"""Several processes of one machine that take part in a search."""

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from acetrain.sweeps.local import POLL, Job, gpus, slots, stop

if TYPE_CHECKING:
    from acetrain.command.searching import Searching
    from acetrain.sweeps.study import Trials


def together(searching: "Searching", trials: "Trials", count: int) -> None:
    """Have `count` processes take part, each on its own GPUs, and tell of each trial as it ends.

    Each is the same command with `launcher=here`; what it prints is in a file of its own.
    """
    count = min(count, trials.tally().left)
    places = slots(count, searching.devices, gpus()) if count else []
    workers = [
        Job(number, place, _started(searching, trials, number, place.environment()))
        for number, place in enumerate(places)
    ]
    known = {trial.number for trial in trials.all() if trial.state.is_finished()}
    try:
        while any(worker.process.poll() is None for worker in workers):
            time.sleep(POLL)
            known |= tell(trials, known)
    finally:
        stop(workers)
    tell(trials, known)


def tell(trials: "Trials", known: set[int]) -> set[int]:
    """Tell of the trials that have ended since, and their numbers."""
    ended = {trial.number for trial in trials.all() if trial.state.is_finished()} - known
    for number in sorted(ended):
        print(trials.told(number), flush=True)
    return ended


def _started(
    searching: "Searching", trials: "Trials", number: int, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "acetrain", *searching.arguments, "launcher=here"]
    log = trials.folder / f"worker-{number + 1}.log"
    print(f"worker {number + 1}: its output is in {log}", flush=True)
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
