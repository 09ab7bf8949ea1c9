"""A search: a multirun whose jobs are proposed one by one, and ended early where they are hopeless."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from acetrain.command.multirun import Multirun, Planned
from acetrain.command.outcome import DONE, FAILED, Outcome
from acetrain.composition.overrides import Given
from acetrain.errors import Refused, require
from acetrain.sweeps import cost, table
from acetrain.sweeps.attempt import Trying
from acetrain.sweeps.launchers import Here
from acetrain.sweeps.record import Content, Record
from acetrain.sweeps.search import Search
from acetrain.sweeps.state import standings

if TYPE_CHECKING:
    from acetrain.sweeps.study import Claim, Trials

CORNERS = 256
"""Combinations of ends and choices that are all checked; of more, only those that differ from the first in two keys."""


@dataclass(frozen=True)
class Searching:
    """A search over one job, which this process takes part in."""

    fixed: Multirun
    """The job without the keys that are searched: a multirun of one cell."""

    def start(self) -> Outcome:
        """Check the space, then try values until as many are tried as asked for, unless only the check was."""
        if find_spec("optuna") is None:
            raise Refused("search: optuna is not installed: pip install 'acetrain[optuna]'")
        launcher = self.fixed.settings.launcher
        launcher.check()
        pack = self.fixed.settings.sweep.pack
        require(pack == 1, "sweep.pack", "1 in a search, whose trials are proposed one by one", pack)
        corners = self._checked()
        launcher.check_search(self)
        plan = corners.planned[0]
        assert plan.record is not None
        print("\n".join([f"search: {plan.record.path}", *self._told(plan)]), flush=True)
        if self.fixed.settings.dry_run:
            print("dry_run: everything is checked, nothing was run")
            return Outcome(DONE)
        trials = self._opened(corners)
        trials.repeat_failed()
        launcher.search(self, trials)
        return self._summary(trials, plan.record) if launcher.waits else Outcome(DONE)

    @property
    def devices(self) -> int:
        """Devices that a trial takes."""
        return self.corners().job(0).trainer.devices

    @property
    def arguments(self) -> list[str]:
        """The arguments with which another process takes part."""
        return [one for one in self.fixed.given if not one.lstrip("+").startswith("launcher")]

    @cached_property
    def search(self) -> Search:
        """The search, without the keys that the command line gives."""
        cells, search = self.fixed.grid.cells, self.fixed.settings.search
        require(
            len(cells) == 1, "search", "asked for with one value a key: it is what varies them", f"{len(cells)} jobs"
        )
        given = {override.key for override in cells[0]}
        left = {key: axis for key, axis in search.space.items() if key not in given}
        require(bool(left), "search.space", "more than the keys that are given on the command line", list(search.space))
        return replace(search, space=left)

    def corners(self) -> Multirun:
        """The job with every combination of ends and choices, each a cell."""
        return self._multirun(*(dict(zip(self.search.space, values, strict=True)) for values in self._corners()))

    def _checked(self) -> Multirun:
        corners = self.corners()
        corners.check()
        if corners.planned[0].record is None:
            raise Refused(f"search: must be of trainings, {corners.composer.job} has no held-out loss")
        try:
            for index in range(len(corners.grid.cells)):
                self.search.check(corners.job(index))
        except Refused as refusal:
            raise Refused(self._located(str(refusal))) from refusal
        return corners

    def _located(self, message: str) -> str:
        """A message with the sweep's file before it, unless its key was given on the command line, or is the job's."""
        key = message.partition(":")[0]
        given = any(one.lstrip("+").startswith(f"{key}=") for one in self.fixed.given)
        return f"{self.fixed.grid.named}: {message}" if key.startswith("search.") and not given else message

    def _corners(self) -> list[tuple[Any, ...]]:
        ends = [axis.corners() for axis in self.search.space.values()]
        if math.prod(map(len, ends)) <= CORNERS:
            return list(itertools.product(*ends))
        first = tuple(values[0] for values in ends)
        found: dict[str, tuple[Any, ...]] = {repr(first): first}
        for one, other in itertools.combinations(range(len(ends)), 2):
            for here, there in itertools.product(ends[one], ends[other]):
                values = tuple({one: here, other: there}.get(place, value) for place, value in enumerate(first))
                found.setdefault(repr(values), values)
        return list(found.values())

    def _multirun(self, *combinations: Mapping[str, Any]) -> Multirun:
        """The job with these values of the space's keys, each a cell."""
        fixed = self.fixed.grid.cells[0]
        cells = tuple((*fixed, *(Given(key, value) for key, value in values.items())) for values in combinations)
        keys = frozenset(self.search.space)
        return replace(self.fixed, grid=replace(self.fixed.grid, cells=cells, varied=keys, in_file=keys), planned=[])

    def _whole(self, corners: Multirun) -> frozenset[str]:
        """The keys that are searched in a range and take whole numbers."""
        config = corners.composer.compose(corners.grid.cells[0]).config
        ranges = [key for key, axis in self.search.space.items() if axis.choices is None]
        found = {key: OmegaConf.select(config, key) for key in ranges}
        for key, value in found.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            require(number, f"search.space.{key}", "choices, as the key is no number", "a range")
        return frozenset(key for key, value in found.items() if isinstance(value, int))

    def _opened(self, corners: Multirun) -> "Trials":
        from acetrain.sweeps.study import Trials

        plan, search, whole = corners.planned[0], self.search, self._whole(corners)
        assert plan.record is not None
        space = {key: asdict(axis) for key, axis in search.space.items()}
        begun = [search.metric.name, search.seed, space, [(entry.run, entry.steps) for entry in plan.entries]]
        digest = hashlib.sha256(json.dumps(begun, default=str).encode()).hexdigest()
        trials = Trials(search, whole, plan.record.name, plan.record.path / "search", digest)
        with trials.alone():
            plan.record.add(self._content(replace(plan, entries=())), {})
        return trials

    def _content(self, plan: Planned) -> Content:
        """What the sweep's record is told: the command without a password that a database's URL may hold."""
        from acetrain.sweeps import storage

        url, known = self.search.storage, self.fixed.content(plan)
        told = [one.replace(url, storage.shown(url)) if url else one for one in known.command]
        return replace(known, command=tuple(told))

    def work(self, trials: "Trials") -> None:
        """Try values, one trial after another, until none is left."""
        while True:
            with trials.claimed(self._run_of) as claim:
                if claim is None:
                    return
                print(f"trial {claim.number + 1}: {self._multirun(claim.values).grid.cell(0)}", flush=True)
                self._tried(trials, claim)
            print(trials.told(claim.number), flush=True)

    def _run_of(self, values: Mapping[str, Any]) -> str:
        try:
            return self._multirun(values).check().entries[0].run
        except Refused:
            return ""

    def _tried(self, trials: "Trials", claim: "Claim") -> None:
        """Train a trial, or what is left of it, and tell how it ended."""
        from acetrain.sweeps.judge import Judge, curve

        one, metric = self._multirun(claim.values), self.search.metric
        try:
            plan = one.check()
        except Refused as refusal:
            return trials.failed(claim, str(refusal))
        record, entry = plan.record, plan.entries[0]
        assert record is not None
        with trials.alone():
            if entry.run not in {earlier.run for earlier in record.entries()}:
                record.add(self._content(plan), {entry.run: plan.configs[0]})
        judge, folder = Judge(trials, claim, metric), record.folder(entry.run)
        if judge.catch_up(folder, entry.steps):
            with Trying(record, entry.run) as trying:
                trying.outcome, trying.pruned = Outcome(DONE), True
        else:
            Here().launch(replace(one, judge=judge), [0])
            judge.catch_up(folder, entry.steps)
        last = record.attempts(entry.run)[-1]
        losses = [loss for _, loss in curve(folder, metric) if math.isfinite(loss)]
        if last.code != DONE or not losses:
            trials.failed(claim, last.message or "no held-out loss is a number")
        elif last.pruned:
            trials.pruned(claim)
        else:
            trials.complete(claim, min(losses))

    def _told(self, plan: Planned) -> list[str]:
        """What is searched, and what it takes at most."""
        search, longest = self.search, max(plan.entries, key=lambda entry: entry.frames)
        audio = cost.duration(search.trials * longest.audio)
        assert plan.record is not None
        pace = cost.seconds_per_frame(plan.record, plan.record.entries())
        time = cost.duration((pace or 0) * search.trials * longest.frames)
        return [
            *table.aligned(["key", "values"], [[key, axis.told()] for key, axis in search.space.items()]),
            f"{search.trials} trials for the lowest {search.metric.name}, proposed by {search.sampler.name}; "
            f"{search.pruner.kind.name}: {search.pruner.told()}",
            f"up to {search.trials * longest.steps:,} steps over {audio} of audio"
            + (f", about {time} at the pace so far" if pace else ""),
        ]

    def _summary(self, trials: "Trials", record: Record) -> Outcome:
        """How the search stands: the table of its runs, the best of them, and what failed."""
        elsewhere = trials.elsewhere()  # before the tally: a trial that ends in between is then not counted as lost
        tally, entries = trials.tally(), record.read().entries
        print("\n".join(["", *table.jobs(standings(record, entries)), tally.told()]))
        if tally.best is not None:
            run = tally.best.user_attrs["run"]
            print(f"best: {tally.best.value:.6g} by trial {tally.best.number + 1}, {record.folder(run)}")
            print(f"  by itself: {record.repeating(run)}")
        if tally.left > elsewhere:
            print("the same command again does what is missing")
        elif tally.left:
            print(f"other processes are at the {tally.left} trials that are left")
        print(f"results: {record.asking('results')}", flush=True)
        if tally.left <= elsewhere:
            return Outcome(DONE)
        lines = [f"trial {trial.number + 1}: {trial.user_attrs['why']}" for trial in tally.failed]
        head = f"{tally.left} of {tally.asked} trials are not done"
        return Outcome(FAILED, "\n".join([head, *lines]))
