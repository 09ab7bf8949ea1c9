"""The cells of a multirun: every combination of the values asked for, as lists of overrides."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from acetrain.composition import recipes
from acetrain.composition.complaints import shown
from acetrain.composition.job import Composer
from acetrain.composition.overrides import Given, Grammatical, Override, Typed, read, values
from acetrain.composition.sources import Sources
from acetrain.composition.types import hints
from acetrain.errors import Refused
from acetrain.schemas import JOBS, MULTIRUN
from acetrain.sweeps.settings import Settings

_LAUNCHER = ("hydra/launcher", "hydra.launcher.", "hydra.job.")


@dataclass(frozen=True)
class Grid:
    """Cells to run, and Hydra's own overrides for how to run them."""

    cells: tuple[tuple[Override, ...], ...]
    varied: frozenset[str]
    """Keys that differ between cells."""
    launching: tuple[str, ...] = ()
    named: str = ""
    """The sweep's file, for messages about `in_file`; empty without one."""
    in_file: frozenset[str] = frozenset()
    """Keys that the sweep's file varies."""
    question: str = ""
    """What the sweep's file says at its beginning."""

    def cell(self, index: int) -> str:
        """What is particular to a cell: `adapter.rank=8 seed=1`."""
        return " ".join(override.written() for override in self.cells[index] if override.key in self.varied)


def sweep_of(changes: Sequence[str]) -> str:
    """The sweep that the last `sweep=NAME` among the changes names; empty if there is none."""
    named = [change.partition("=")[2] for change in changes if change.startswith("sweep=")]
    return named[-1] if named and named[-1] != "null" else ""


def split(composer: Composer, changes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The changes of the job, and those of how a multirun of it is run, where the job has no key of that name."""
    keys = hints(JOBS[composer.job])
    own = [change for change in changes if _is_of_multiruns(change) and change.partition("=")[0] not in keys]
    return [change for change in changes if change not in own], own


def settings(sources: Sources, own: Sequence[str], sweep: str = "") -> Settings:
    """How a multirun is run, by its own changes laid over what the sweep's file says.

    Raises Refused for unknown keys and values that cannot be, naming the file where it is the file's.
    """
    typed = [read(change) for change in own]
    filed = recipes.settings(sources, sweep) if sweep else []
    try:
        return Composer(MULTIRUN, sources).compose([*filed, *typed]).build()
    except Refused as refusal:
        key = str(refusal).partition(":")[0]
        of_file = any(f"{key}.".startswith(f"{one.key}.") for one in filed) and key not in {one.key for one in typed}
        raise Refused(f"{shown(sources.recipe('sweep', sweep))}: {refusal}" if of_file else str(refusal)) from refusal


def expand(composer: Composer, changes: Sequence[str], multirun: bool) -> Grid:
    """The grid of a multirun (`-m`, where commas separate values), a `sweep=NAME`, or both.

    What is given on the command line replaces what the sweep varies. Raises Refused for values that cannot be read.
    """
    launching = tuple(change for change in changes if _is_hydras(change))
    typed = [read(change) for change in changes if not _is_hydras(change)]
    axes = [_several(composer, override) if multirun else [override] for override in typed]
    given = {override.key for override in typed}
    sweep = sweep_of(changes)
    contents = recipes.grids(composer.sources, sweep) if sweep else [{}]
    grids = [[_axis(composer, key, one[key]) for key in one if key not in given] for one in contents]
    cells = tuple(cell for grid in grids for cell in itertools.product(*grid, *axes))
    return Grid(
        cells=cells,
        varied=_varied(cells),
        launching=launching,
        named=shown(composer.sources.recipe("sweep", sweep)) if sweep else "",
        in_file=frozenset(axis[0].key for grid in grids for axis in grid),
        question=recipes.opening(composer.sources.recipe("sweep", sweep)) if sweep else "",
    )


def _varied(cells: Sequence[Sequence[Override]]) -> frozenset[str]:
    found = [{override.key: override.written() for override in cell} for cell in cells]
    keys = {key for cell in found for key in cell}
    return frozenset(key for key in keys if len({cell.get(key) for cell in found}) > 1)


def _is_of_multiruns(change: str) -> bool:
    key = change.lstrip("+").partition("=")[0]
    return key in ("launcher", "dry_run") or key.startswith(("launcher.", "sweep.", "search."))


def _is_hydras(change: str) -> bool:
    key = change.lstrip("+").partition("=")[0]
    if key.startswith(_LAUNCHER):
        return True
    if key.startswith(("hydra.", "hydra/")):
        raise Refused(
            f"{key}: must be one of hydra/launcher, hydra.launcher.* or hydra.job.*; out_dir says where runs lie"
        )
    return False


def _several(composer: Composer, override: Typed) -> list[Override]:
    if override.key == "sweep":
        return [override]
    return [Grammatical(override.key, raw) for raw in values(override.written(), composer.options(override.key))]


def _axis(composer: Composer, key: str, content: object) -> list[Override]:
    if isinstance(content, list):
        return [Given(key, value) for value in content]
    return [Grammatical(key, raw) for raw in values(f"{key}={content}", composer.options(key))]
