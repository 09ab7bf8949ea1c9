"""`acetrain sweep`: where a sweep stands, what came of it, and what can go."""

import json
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from acetrain.errors import Failed, require
from acetrain.ranks import follows
from acetrain.sweeps.record import Content, Entry, Record, recorded
from acetrain.sweeps.state import Standing, standings


class Action(Enum):
    """What to do with a sweep."""

    status = "status"
    results = "results"
    clean = "clean"
    run = "run"


class What(Enum):
    """Runs that `clean` deletes."""

    unfinished = "unfinished"
    all = "all"


@dataclass
class Sweep:
    """Tell where a sweep stands (status), what came of it (results), run one of its jobs, or delete runs (clean)."""

    action: Action
    """status, results, run or clean. Also the first word: `acetrain sweep status NAME`."""
    name: str
    """The sweep: its file's name, or for `-m` without one the `name` of its runs; empty for a list of all sweeps. Also
    the second word."""
    out_dir: str
    """Folder that the sweep's runs lie in."""
    job: str
    """The job that `run` runs: its number, from 1, as status has it, or its run's folder."""
    what: What
    """Runs that clean deletes: unfinished (failed and interrupted ones) or all of them, and then the sweep's record.
    Never one that is running, that another sweep has as well, or whose folder is a link."""
    delete: bool
    """Whether clean deletes; false lists what it would delete."""
    json: bool
    """Whether status prints one JSON object, of all sweeps a list of such; `--json` says the same."""

    def __post_init__(self) -> None:
        alone = self.action is Action.status
        require(bool(self.name) or alone, "name", f"the name of a sweep for {self.action.name}", self.name)
        is_name = "/" not in self.name and self.name not in (".", "..")
        require(is_name, "name", "a sweep's name, without '/'", self.name)
        require(alone or not self.json, "json", "false but for status", self.json)
        known = self.action is not Action.run or bool(self.job)
        require(known, "job", "the number of a job, from 1, or its run, where one is to run", self.job)

    def check(self) -> None:
        """Whether there is such a sweep, and such a job in it."""
        if not self.name:
            return
        if self.action is Action.run:
            self._entry  # noqa: B018
        self._content  # noqa: B018

    def run(self) -> None:
        """Do it."""
        actions = {
            Action.status: self._status,
            Action.results: self._results,
            Action.clean: self._clean,
            Action.run: self._run,
        }
        actions[self.action]()

    @cached_property
    def _record(self) -> Record:
        return Record.of(Path(self.out_dir), self.name)

    @cached_property
    def _content(self) -> Content:
        return self._record.read()

    @cached_property
    def _entry(self) -> Entry:
        """The job that is asked for. A run's name stays its own when jobs are added to the sweep."""
        entries = self._content.entries
        named = {str(number): entry for number, entry in enumerate(entries, 1)} | {one.run: one for one in entries}
        require(self.job in named, "job", f"one of the {len(entries)} of the sweep, or its run", self.job)
        return named[self.job]

    def _standings(self) -> list[Standing]:
        return standings(self._record, self._content.entries)

    def _status(self) -> None:
        from acetrain.sweeps import status

        parent = Path(self.out_dir)
        if not self.name and self.json:
            every = [Record.of(parent, name) for name in recorded(parent)]
            print(json.dumps([status.document(one, standings(one, one.entries())) for one in every], indent=2))
        elif not self.name:
            print("\n".join(status.every(parent, recorded(parent))))
        elif self.json:
            print(json.dumps(status.document(self._record, self._standings()), indent=2))
        else:
            print("\n".join(status.page(self._record, self._content, self._standings())))

    def _results(self) -> None:
        from acetrain.sweeps.report import tell

        tell(self._record)

    def _clean(self) -> None:
        from acetrain.sweeps.clean import clean

        clean(self._record, self._standings(), self.what is What.all, self.delete)

    def _run(self) -> None:
        from acetrain.composition.job import Composer
        from acetrain.composition.overrides import Typed
        from acetrain.composition.sources import Sources
        from acetrain.sweeps.attempt import attempt

        content, entry = self._content, self._entry
        composer = Composer(content.job, Sources.of(Path.cwd(), content.config_dirs))
        training = composer.compose([Typed("experiment", str(self._record.experiment(entry.run)))]).build()
        vars(training)["sweep"] = self.name
        training.out_dir = str(self._record.folder(entry.run))  # as told from here
        if not follows():
            training.check()
        outcome = attempt(self._record, entry.run, training, content.retry_oom, False, training.run)
        if outcome.code:
            raise Failed(outcome.message)
