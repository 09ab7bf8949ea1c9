"""Multiruns: every job is composed and checked before anything is written, then a launcher runs what is left to do."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from acetrain.command.grid import Grid
from acetrain.command.outcome import DONE, FAILED, Outcome, outcome_of, unexpected
from acetrain.composition.job import Composed, Composer
from acetrain.config import repeatable
from acetrain.errors import Refused, require
from acetrain.jobs.train import Train
from acetrain.schemas import PRODUCTS
from acetrain.sweeps import cost, table
from acetrain.sweeps.attempt import attempt, free
from acetrain.sweeps.record import Content, Entry, Record
from acetrain.sweeps.settings import Settings
from acetrain.sweeps.state import Standing, State, standings
from acetrain.training.ending import Judge

if TYPE_CHECKING:
    from acetrain.training.shared_base import SharedBase

T = TypeVar("T")


@runtime_checkable
class Placed(Protocol):
    """A job whose folder in a multirun follows from what it does."""

    out_dir: str

    def place(self, parent: str) -> None:
        """Move `out_dir` below `parent`, into a folder of the job's own."""


@dataclass(frozen=True)
class Planned:
    """What the jobs of a multirun are to write; for trainings also the sweep's record and what goes into it."""

    products: tuple[str, ...]
    record: Record | None = None
    entries: tuple[Entry, ...] = ()
    configs: tuple[str, ...] = ()

    @property
    def parent(self) -> Path:
        """The folder that the first job writes into."""
        return Path(self.products[0]).parent if self.products and self.products[0] else Path()


@dataclass(frozen=True)
class Multirun:
    """A grid over one job."""

    composer: Composer
    grid: Grid
    settings: Settings
    sweep: str
    """The sweep's file by its name; empty without one."""
    given: tuple[str, ...]
    """All arguments, as typed."""
    debug: bool
    planned: list[Planned] = field(default_factory=list)
    """What `check` found; empty before it."""
    judge: Judge | None = None
    """What may end its jobs early, where they are trials of a search."""
    kept: list["SharedBase"] = field(default_factory=list)
    """What the jobs that run in this process share; empty before the first."""

    def start(self) -> Outcome:
        """Check every job, show them, and run what is not done yet, unless only the check was asked for."""
        self.settings.launcher.check()
        plan = self.check()
        left = self._left(plan)
        if left:
            self._check_launch(left)
        for line in self._shown(plan, left):
            print(line, flush=True)
        if self.settings.dry_run:
            print("dry_run: everything is checked, nothing was run")
            return Outcome(DONE)
        if plan.record is not None:
            plan.record.add(self.content(plan), {e.run: c for e, c in zip(plan.entries, plan.configs, strict=True)})
        if not left:
            print("nothing left to do")
            return Outcome(DONE)
        return self._summary(plan, dict(zip(left, self._launch(left), strict=True)))

    def check(self) -> Planned:
        """What the jobs will write. Raises Refused for the first that cannot run, or two that would write the same."""
        built = [self._checked(index, partial(self._built, index)) for index in range(len(self.grid.cells))]
        products: list[str] = []
        for index, (_, job) in enumerate(built):
            product = self._checked(index, partial(self._product, job))
            self._checked(index, job.check)
            if product and product in products:
                raise Refused(self._collision(products.index(product), index, product))
            products.append(product)
        self.planned[:] = [self._planned(built, tuple(products))]
        return self.planned[0]

    def job(self, index: int) -> Any:
        """The job of a cell, in its own folder where it has one."""
        job = self._built(index)[1]
        self._product(job)
        return job

    def attempt(self, index: int) -> Outcome:
        """Run a job in this process. Raises what nobody provides for, and Interrupted."""
        if self.judge is None:
            print(f"job {index + 1} of {len(self.grid.cells)}: {self.grid.cell(index)}", flush=True)
        with ExitStack() as stack:
            stack.push(partial(_say_unexpected, index, self.debug))
            outcome = self._attempted(index)
        free()
        if outcome.code != DONE and self.judge is None:
            print(f"job {index + 1} failed: {outcome.message}", flush=True)
        return outcome

    def _attempted(self, index: int) -> Outcome:
        plan = self.planned[0]
        built: list[Any] = []

        def train() -> None:
            job = built[0] if built else self.job(index)
            job.check()
            with _alone(self, job):
                job.run(*([self.bases] if isinstance(job, Train) and self.settings.sweep.share_base else []))

        if plan.record is None:
            return outcome_of(train, self.debug)
        built.append(self.job(index))
        vars(built[0]).update(sweep=plan.record.name, judge=self.judge)
        return attempt(plan.record, plan.entries[index].run, built[0], self.settings.sweep.retry_oom, self.debug, train)

    @property
    def bases(self) -> "SharedBase":
        """The loaded base that jobs in this process have in common."""
        from acetrain.training.shared_base import SharedBase

        if not self.kept:
            self.kept.append(SharedBase())
        return self.kept[0]

    def alone(self, experiment: Path) -> list[str]:
        """The arguments with which a process runs what `experiment` says as a single run."""
        folders = [f"--config-dir={folder}" for folder in self.composer.sources.extra]
        return [self.composer.job, f"experiment={experiment}", *folders, *(["--debug"] if self.debug else [])]

    def _built(self, index: int) -> tuple[Composed, Any]:
        composed = self.composer.compose(self.grid.cells[index])
        return composed, composed.build()

    def _product(self, job: Any) -> str:
        if isinstance(job, Placed):
            job.place(job.out_dir or "runs")
        return str(getattr(job, PRODUCTS.get(self.composer.job, ""), ""))

    def _checked(self, index: int, action: Callable[[], T]) -> T:
        try:
            return action()
        except Refused as refusal:
            raise Refused(self._at(index, str(refusal))) from refusal

    def _planned(self, built: Sequence[tuple[Composed, Any]], products: tuple[str, ...]) -> Planned:
        jobs = [job for _, job in built]
        if not all(isinstance(job, Train) for job in jobs):
            return Planned(products)
        names = {job.name for job in jobs}
        name = Path(self.sweep).stem or (names.pop() if len(names) == 1 else self.composer.job)
        parent = Path(products[0]).parent
        entries = [
            Entry(os.path.relpath(product, parent), self._given(index, composed), job.total_steps, *cost.extent(job))
            for index, ((composed, job), product) in enumerate(zip(built, products, strict=True))
        ]
        configs = tuple(repeatable(job) for job in jobs)
        return Planned(products, Record.of(parent, name), tuple(entries), configs)

    def _given(self, index: int, composed: Composed) -> dict[str, Any]:
        keys = dict.fromkeys(override.key for override in self.grid.cells[index])
        plain = OmegaConf.to_container(composed.config, resolve=True, enum_to_str=True)
        config = OmegaConf.create(plain)
        values = {key: OmegaConf.select(config, key) for key in keys if not self.composer.is_group(key)}
        raw = {one.key: one.written().partition("=")[2] for one in self.grid.cells[index]}
        chosen = {key: composed.choices.get(key, raw[key]) for key in keys if self.composer.is_group(key)}
        found = {key: chosen[key] if key in chosen else values[key] for key in keys}
        return {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in found.items()}

    def content(self, plan: Planned) -> Content:
        """What the sweep's record is told."""
        return Content(
            plan.entries,
            self.composer.job,
            self.grid.question,
            self.given,
            tuple(map(str, self.composer.sources.extra)),
            self.settings.sweep.retry_oom,
        )

    def _left(self, plan: Planned) -> list[int]:
        """Jobs still to be done, those that another process is at last."""
        if plan.record is None:
            return list(range(len(plan.products)))
        states = [one.state for one in standings(plan.record, plan.entries)]
        left = [index for index, state in enumerate(states) if not state.settled]
        return sorted(left, key=lambda index: states[index] is State.running)

    def _check_launch(self, left: Sequence[int]) -> None:
        if self.grid.launching:
            pack = self.settings.sweep.pack
            require(pack == 1, "sweep.pack", "1 with a launcher of Hydra's", pack)
        else:
            self.settings.launcher.check_jobs(self, left)

    def _launch(self, left: Sequence[int]) -> list[Outcome]:
        if self.grid.launching:
            from acetrain.command.through_hydra import launch

            return launch(self, left)
        return self.settings.launcher.launch(self, left)

    def _shown(self, plan: Planned, left: Sequence[int]) -> list[str]:
        if plan.record is None:
            return [f"job {i + 1} of {len(plan.products)}: {self.grid.cell(i)}" for i in left] * self.settings.dry_run
        lines = [f"sweep: {plan.record.path}", *table.jobs(standings(plan.record, plan.entries))]
        todo = [plan.entries[index] for index in left]
        return [*lines, cost.told(plan.record, plan.entries, todo)] if todo else lines

    def _summary(self, plan: Planned, outcomes: dict[int, Outcome]) -> Outcome:
        if plan.record is not None:
            self._say_end(standings(plan.record, plan.entries))
        failed = [index for index, outcome in outcomes.items() if outcome.code != DONE]
        if not failed:
            return Outcome(DONE)
        lines = [f"{self.grid.cell(index)}: {' '.join(outcomes[index].lines())}" for index in sorted(failed)[:3]]
        head = f"{len(failed)} of {len(plan.products)} jobs failed" if len(failed) > 1 else ""
        return Outcome(FAILED, "\n".join([head, *lines] if head else lines))

    def _say_end(self, ended: Sequence[Standing]) -> None:
        record = self.planned[0].record
        assert record is not None
        print("\n".join(["", *table.jobs(ended)]))
        for number, one in enumerate(ended, 1):
            if one.state is State.failed:
                print(f"job {number} failed: {one.message}")
                print(f"  by itself: {record.repeating(one.entry.run)}")
        if not all(one.state.settled for one in ended):
            print("the same command again does what is missing")
        print(f"results: {record.asking('results')}", flush=True)

    def _at(self, index: int, message: str) -> str:
        if self.grid.named and message.startswith(tuple(f"{key}:" for key in self.grid.in_file)):
            message = f"{self.grid.named}: {message}"
        if len(self.grid.cells) == 1:
            return message
        return f"{message}\nin job {index + 1} of {len(self.grid.cells)}: {self.grid.cell(index)}"

    def _collision(self, first: int, second: int, product: str) -> str:
        key = PRODUCTS[self.composer.job]
        return (
            f"{key}: must differ between jobs, {first + 1} and {second + 1} would both write {product}\n"
            f"{self.grid.cell(first)}\n{self.grid.cell(second)}"
        )


@contextmanager
def _alone(multirun: Multirun, job: Any) -> Iterator[None]:
    """Within it a job that starts processes of its own, as data-parallel training does, starts them as a single run.

    They get the arguments of this process, which would be the whole multirun's; and what a job leaves in the
    environment about its ranks would be taken for the next one's.
    """
    arguments, hydra, environment = sys.argv, HydraConfig.instance().cfg, dict(os.environ)
    if isinstance(job, Placed):
        sys.argv = [arguments[0], *multirun.alone(Path(job.out_dir).absolute() / "config.yaml")]
    HydraConfig.instance().cfg = None
    try:
        yield
    finally:
        sys.argv, HydraConfig.instance().cfg = arguments, hydra
        os.environ.clear()
        os.environ.update(environment)


def _say_unexpected(
    index: int, debug: bool, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> bool:
    """As an exit of a `with`: tell the job's own output of an error that is on its way to the launcher."""
    if isinstance(error, Exception) and not isinstance(error, BrokenPipeError):
        if debug:
            traceback.print_exception(kind, error, trace)
        print(f"job {index + 1} failed: {unexpected(error, debug).message}", flush=True)
    return False
