"""A composed sensitivity run carried out: the pass over the songs, the estimates, and what is shown of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import nn

from acetrain import __version__
from acetrain.acestep.load import check_base, load_base
from acetrain.acestep.names import official
from acetrain.analysis import figures, listing
from acetrain.analysis.collect import Pass
from acetrain.analysis.estimates import Estimate, Half, estimate
from acetrain.analysis.report import JSON, Bin, Module, Report
from acetrain.analysis.sizes import is_exact
from acetrain.analysis.sketch import Signs
from acetrain.analysis.state import State
from acetrain.config import resolved
from acetrain.errors import Failed, Refused
from acetrain.tracking.counted import counted
from acetrain.tracking.logger import Ended
from acetrain.tracking.media import show
from acetrain.tracking.tracked import Tracked
from acetrain.training.device import check_count, device_of
from acetrain.training.module import T_BINS
from acetrain.training.objective import Objective
from acetrain.training.precision import Format, Precision
from acetrain.training.replicas import first_rank

if TYPE_CHECKING:
    from acetrain.jobs.sensitivity import Sensitivity

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def is_done(run: "Sensitivity") -> bool:
    """Whether the folder holds the report."""
    return (run.folder.path / JSON).is_file()


def measure(run: "Sensitivity", config: str) -> None:
    """Look at every song, and write the report, its pictures and `config`, which repeats the run."""
    device = device_of(run.accelerator)
    check_count(device, run.devices, "devices")
    formats = _formats(run, device)
    if first_rank():
        check_base(run.model)
        run.folder.claim(config)
        _announce(run)
    with _ranks(run, device) as fabric, repeatable(fabric.device):
        objective = _objective(run, formats, fabric.device)
        layers = {name: _layer(objective.dit, name) for name in run.shapes}
        state = _state(run)
        _collect(run, objective, layers, formats, state, fabric)
        if first_rank():
            report = _report(run, state, layers)
            _track(run, figures.draw(report, run.folder.path))
            report.write(run.folder.path)  # last, as a run that has it is done


def tell(run: "Sensitivity") -> None:
    """Print the modules with the highest scores, and how to train by the report; drop the sums it was made of."""
    folder = run.folder.path
    _state(run).remove()
    listing.show(Report.read(folder / JSON))
    print(f"report: {folder / JSON}")
    more = f"targets=sensitivity targets.report={folder / JSON} targets.budget=..."
    print(f"next: acetrain train cache={run.cache} {run.model.arguments()} {more}")


def _state(run: "Sensitivity") -> State:
    return State(run.folder.path / "state")


def _formats(run: "Sensitivity", device: torch.device) -> Precision:
    formats = run.precision.on(device)
    if Format.fp16 in (formats.base, formats.compute):
        raise Refused("precision: must be fp32 or bf16, as small gradients vanish in fp16, which suits this GPU")
    return formats


def _announce(run: "Sensitivity") -> None:
    grid, exact = run.grid, sum(is_exact(shape, run.sketch) for shape in run.shapes.values())
    over = "songs" if grid.over_songs else "draws of noise, as there are fewer than 4 songs"
    print(f"run: {run.folder.path}")
    print(f"songs: {len(grid.songs)}, {run.bins} bins of timesteps, {grid.draws_each} draws each; halves are {over}")
    sketched = f", {len(run.shapes) - exact} as sketches of {run.sketch}" if exact < len(run.shapes) else ""
    print(f"modules: {len(run.shapes)}, gradients of {exact} added up whole{sketched}", flush=True)


@contextmanager
def _ranks(run: "Sensitivity", device: torch.device) -> Iterator[Fabric]:
    """The processes of the run, started by Lightning where there are several; each on its device."""
    strategy = "ddp" if run.devices > 1 else "auto"
    fabric = Fabric(accelerator=device.type, devices=run.devices, strategy=strategy)
    fabric.launch()
    try:
        yield fabric
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within it a GPU computes the same bits each time, at some cost in attention's backward pass, as a CPU does."""
    if device.type != "cuda":
        yield
        return
    before = os.environ.get(CUBLAS), torch.are_deterministic_algorithms_enabled()
    os.environ[CUBLAS] = before[0] or ":4096:8"
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[1])
        if before[0] is None:
            del os.environ[CUBLAS]


def _objective(run: "Sensitivity", formats: Precision, device: torch.device) -> Objective:
    base = load_base(run.model, formats.base.dtype)
    formats.store(base.dit, device)
    base.dit.recompute(1 if run.gradient_checkpointing else 0)
    return Objective.on(base, run.loss, run.weighting, device)


def _layer(dit: nn.Module, name: str) -> nn.Linear:
    layer = dit.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer


def _collect(
    run: "Sensitivity",
    objective: Objective,
    layers: dict[str, nn.Linear],
    formats: Precision,
    state: State,
    fabric: Fabric,
) -> None:
    """Add up the units that are missing. Raises Failed where the memory does not hold a song."""
    units, rank, ranks = state.missing(run.grid.units), fabric.global_rank, fabric.world_size
    work = Pass(
        objective,
        layers,
        run.opened,
        run.sketch,
        run.seed,
        formats.compute.dtype,
        lambda: formats.autocast(fabric.device),
        rank,
        ranks,
    )
    visits = sum(len(unit.visits[rank::ranks]) for unit in units)
    try:
        with counted("gradients", visits) if first_rank() else _silent() as advance:
            work.collect(units, state, advance)
    except torch.OutOfMemoryError as error:
        ways = ["gradient_checkpointing=true"] * (not run.gradient_checkpointing) + ["precision=bf16", "sketch=64"]
        raise Failed(f"a song does not fit the memory; try {' or '.join(ways)}, or shorter songs") from error


@contextmanager
def _silent():
    yield lambda: None


def _report(run: "Sensitivity", state: State, layers: dict[str, nn.Linear]) -> Report:
    """The estimates of every module, from the sums of all units."""
    grid, modules = run.grid, []
    with counted("estimates", len(layers)) as advance:
        for (name, layer), sums in zip(layers.items(), state.modules(grid, list(layers)), strict=True):
            modules.append(_module(run, name, layer, sums))
            advance()
    return Report(
        acetrain=__version__,
        data=run.opened.digest(),
        model=run.weights,
        settings=resolved(run) | {"timesteps": resolved(run.density)},
        songs=len(grid.songs),
        interval_over="songs" if grid.over_songs else "draws",
        groups=(grid.groups(0), grid.groups(1)),
        draws=grid.draws_each,
        edges=tuple(grid.edges),
        modules=tuple(modules),
    )


def _module(run: "Sensitivity", name: str, layer: nn.Linear, sums: list[list[dict[str, torch.Tensor]]]) -> Module:
    weight = layer.weight.detach().to("cpu", torch.float64)
    shape, signs = run.shapes[name], [Signs(run.sketch, run.seed, half) for half in (0, 1)]
    shares = [next(unit.shares for unit in run.grid.units if unit.half == half) for half in (0, 1)]
    rank_max = min(run.rank_max, *shape)

    def over(bins: slice) -> Estimate:
        halves = [Half.of(sums[half][bins], shares[half], signs[half]) for half in (0, 1)]
        return estimate(halves[0], halves[1], weight, rank_max)

    bins = tuple(Bin(**_measured(over(slice(bin, bin + 1)))) for bin in range(run.bins))
    method = "exact" if is_exact(shape, run.sketch) else "sketch"
    return Module(**_measured(over(slice(None))), name=official(name), shape=shape, method=method, bins=bins)


def _measured(found: Estimate) -> dict:
    return {
        "score": found.score,
        "standard_error": found.error,
        "interval": found.interval,
        "spectrum": tuple(found.spectrum),
        "baselines": found.baselines,
    }


def _track(run: "Sensitivity", pictures: dict[str, Path]) -> None:
    """Hand the pictures to the tracker."""
    loggers = run.logger.open(Tracked.of(run, 0, {}))
    show(loggers, pictures)
    times = [visit.t for unit in run.grid.units for visit in unit.visits]
    counts = torch.histc(torch.tensor(times), T_BINS, 0.0, 1.0).int().tolist()
    run.logger.close(loggers, Ended(pictures["heat_map"], counts, 0, {"modules": len(run.shapes)}))
