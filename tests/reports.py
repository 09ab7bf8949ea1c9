"""Reports of sensitivity as the job writes them, with spectra that a test chooses."""

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers, official
from acetrain.analysis.report import JSON, Bin, Module, Report

TINY = Tiny(variant="tiny", path="", steps=4, shift=1.0, guidance=1.0)
LAYERS = linear_layers(TINY.config("transformer"))


def report(spectra: Mapping[str, Sequence[float]], data: str = "data", model: str = "weights") -> Report:
    """A report on modules of the tiny base, by diffusers name, in one bin."""
    modules = []
    for name, spectrum in spectra.items():
        figures = (sum(value**2 for value in spectrum), None, None, tuple(map(float, spectrum)), {"fisher": 1.0})
        modules.append(Module(*figures, name=official(name), shape=LAYERS[name], method="exact", bins=(Bin(*figures),)))
    return Report("0", data, model, {}, 8, "songs", (4, 4), 1, (0.0, 1.0), tuple(modules))


def written(folder: Path, spectra: Mapping[str, Sequence[float]], data: str = "data", model: str = "weights") -> Path:
    """The file of such a report, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    report(spectra, data, model).write(folder)
    return folder / JSON


@functools.cache
def some() -> Path:
    """A report in which every other module has a signal, of rank 2, stronger the later it comes."""
    kept = tempfile.mkdtemp(prefix="acetrain-report-")
    spectra = {name: [place, place / 2, 0.0] if place % 2 else [0.0] for place, name in enumerate(LAYERS)}
    return written(Path(kept), spectra)


def choice(option: str) -> list[str]:
    """The overrides that choose an option of targets, with what it cannot do without."""
    given = [f"targets={option}"]
    return (
        [*given, f"targets.report={some()}", "targets.budget=1e9", "targets.force=true"]
        if option == "sensitivity"
        else given
    )
