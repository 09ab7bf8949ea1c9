"""Jobs of SLURM that take part in a search."""

from typing import TYPE_CHECKING

from acetrain.errors import require
from acetrain.sweeps.record import Record
from acetrain.sweeps.slurm.option import Slurm
from acetrain.sweeps.slurm.submitted import FOLDER, in_queue, note, submitted
from acetrain.sweeps.slurm.sweep import wait
from acetrain.sweeps.workers import tell

if TYPE_CHECKING:
    from acetrain.command.searching import Searching
    from acetrain.sweeps.study import Trials


def check(searching: "Searching") -> None:
    """Raise Refused where jobs of SLURM cannot take part in a search, or would have its secret in their files."""
    from acetrain.sweeps import storage

    require(searching.devices == 1, "trainer.devices", "1 in a search on SLURM", searching.devices)
    url = searching.search.storage
    secret = storage.shown(url) != url and any(url in argument for argument in searching.arguments)
    rule = "in the sweep's file as ${oc.env:NAME} where it has a password, as jobs of SLURM lie in files"
    require(not secret, "search.storage", rule, storage.shown(url))


def together(option: Slurm, searching: "Searching", trials: "Trials") -> None:
    """Have as many jobs as may run at a time take part, those among them that are in the queue, and tell of each trial
    as it ends.

    Each is the same command with `launcher=here`; one that is requeued goes on with its trial.
    """
    record = Record(trials.folder.parent)
    there = in_queue(trials.folder)
    missing = min(option.parallel, trials.tally().left) - len(there)
    if missing > 0:
        _submit(option, searching, trials, missing)
    if not option.wait:
        print(f"to follow them: {record.asking('status')}", flush=True)
        return
    known = {trial.number for trial in trials.all() if trial.state.is_finished()}

    def look() -> None:
        known.update(tell(trials, known))

    wait(list(submitted(trials.folder).values()), option.poll, record, look)


def _submit(option: Slurm, searching: "Searching", trials: "Trials", count: int) -> None:
    from acetrain.sweeps.slurm.array import Command, array

    folder, name = (trials.folder / FOLDER).absolute(), f"acetrain-{trials.folder.parent.name}"
    command = Command((*searching.arguments, "launcher=here"))
    jobs = array(option, folder, name, 1, 1).submit([command] * count)
    note(trials.folder, {job: job for job in jobs})
    first, _, _ = jobs[0].partition("_")
    print(f"submitted: {count} jobs as job {first} of SLURM, which print to {trials.folder / FOLDER}", flush=True)
