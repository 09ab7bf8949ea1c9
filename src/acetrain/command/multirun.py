"""Multiruns: every cell is composed and checked before anything is written, then Hydra's launcher runs them."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

from hydra import compose
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from acetrain.command.grid import Grid
from acetrain.command.outcome import DONE, FAILED, Outcome, outcome_of, unexpected
from acetrain.composition.complaints import about_layers
from acetrain.composition.job import Composer
from acetrain.composition.layers import opened
from acetrain.composition.overrides import literal, quoted
from acetrain.errors import Refused
from acetrain.schemas import PRODUCTS

_CELL = "acetrain_cell"
T = TypeVar("T")


@runtime_checkable
class Placed(Protocol):
    """A job whose folder in a multirun follows from what it does."""

    out_dir: str

    def place(self, parent: str) -> None:
        """Move `out_dir` below `parent`, into a folder of the job's own."""


@dataclass(frozen=True)
class Multirun:
    """A grid over one job."""

    composer: Composer
    grid: Grid
    debug: bool

    def check(self) -> list[str]:
        """What each cell will write. Raises Refused for the first cell that cannot run, or two that write the same."""
        products: list[str] = []
        built = [self._checked(index, partial(self._built, index)) for index in range(len(self.grid.cells))]
        for index, job in enumerate(built):
            product = self._checked(index, partial(self._product, job))
            self._checked(index, job.check)
            if product and product in products:
                raise Refused(self._collision(products.index(product), index, product))
            products.append(product)
        return products

    def job(self, index: int) -> Any:
        """The job of a cell, in its own folder where it has one."""
        job = self._built(index)
        self._product(job)
        return job

    def alone(self, experiment: Path) -> list[str]:
        """The arguments with which a process runs what `experiment` says as a single run."""
        folders = [f"--config-dir={folder}" for folder in self.composer.sources.extra]
        return [self.composer.job, f"experiment={experiment}", *folders, *(["--debug"] if self.debug else [])]

    def _built(self, index: int) -> Any:
        return self.composer.compose(self.grid.cells[index]).build()

    def _product(self, job: Any) -> str:
        if isinstance(job, Placed):
            job.place(job.out_dir or "runs")
        return str(getattr(job, PRODUCTS.get(self.composer.job, ""), ""))

    def _checked(self, index: int, action: Callable[[], T]) -> T:
        try:
            return action()
        except Refused as refusal:
            raise Refused(self._at(index, str(refusal))) from refusal

    def run(self, products: Sequence[str]) -> Outcome:
        """Launch the cells; one that fails stops no other."""
        ConfigStore.instance().store(name=_CELL, node={"index": 0})
        parent = Path(products[0]).parent if products[0] else Path()
        settings = {
            "hydra.sweep.dir": quoted(literal(str(parent))),
            "hydra.sweep.subdir": ".",
            "hydra.output_subdir": "null",
            "hydra/job_logging": "none",
            "hydra/hydra_logging": "none",
        }
        given = [f"{key}={value}" for key, value in settings.items()]
        with opened(self.composer.sources) as first:
            try:
                config = compose(_CELL, [*first, *given, *self.grid.launching], return_hydra_config=True)
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                raise about_layers(error, self.composer.sources, {}) from error
            launcher = Plugins.instance().instantiate_launcher(
                config=config,
                hydra_context=HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks()),
                task_function=partial(run_cell, self),
            )
            returned = launcher.launch([[f"index={index}"] for index in range(len(products))], 0)
        return self._summary([_ended(one, self.debug) for one in returned])

    def _summary(self, outcomes: Sequence[Outcome]) -> Outcome:
        failed = [index for index, outcome in enumerate(outcomes) if outcome.code != DONE]
        if not failed:
            return Outcome(DONE)
        lines = [f"{self.grid.cell(index)}: {' '.join(outcomes[index].lines())}" for index in failed[:3]]
        head = f"{len(failed)} of {len(outcomes)} jobs failed" if len(failed) > 1 else ""
        return Outcome(FAILED, "\n".join([head, *lines] if head else lines))

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


def _ended(returned: JobReturn, debug: bool) -> Outcome:
    """How a cell ended. Hydra keeps an exception where the result would be, and its property raises it."""
    ended = returned._return_value
    if isinstance(ended, BrokenPipeError):
        raise ended
    return unexpected(ended, debug) if returned.status is JobStatus.FAILED else ended


def run_cell(multirun: Multirun, config: DictConfig) -> Outcome:
    """Run one cell, in this process or in one that a launcher started."""
    index = config["index"]
    print(f"job {index + 1} of {len(multirun.grid.cells)}: {multirun.grid.cell(index)}", flush=True)

    def attempt() -> None:
        job = multirun.job(index)
        job.check()
        with _alone(multirun, job):
            job.run()

    with ExitStack() as stack:
        stack.push(partial(_say_unexpected, index, multirun.debug))
        outcome = outcome_of(attempt, multirun.debug)
    if outcome.code != DONE:
        print(f"job {index + 1} failed: {outcome.message}", flush=True)
    return outcome
