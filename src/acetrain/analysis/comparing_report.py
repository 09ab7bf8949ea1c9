"""What `acetrain compare` writes and prints."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from acetrain.acestep.names import official
from acetrain.adapters.targets import block_of
from acetrain.analysis.comparing import Comparison, Likeness
from acetrain.atomic import write_text

REPORT = "compare.json"
ROWS = "compare.csv"
PLOT = "compare.png"
FORMAT = 1
"""Version of `compare.json`."""
WIDTH = 120
"""Columns of the table where there is no terminal."""


def write(found: Comparison, folder: Path, adapters: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Write the table, the heat map and last `compare.json`, and print the kinds of modules."""
    from acetrain.analysis.comparing_plot import draw

    write_text(folder / ROWS, rows(found))
    draw(found, folder / PLOT)
    write_text(folder / REPORT, json.dumps(document(found, adapters, settings), indent=1) + "\n")
    print(page(found))
    files = ", ".join(str(folder / name) for name in (REPORT, ROWS, PLOT))
    print(f"cosine of all: {found.cosine:.4f}, norms {found.norms[0]:.4g} and {found.norms[1]:.4g}\nfigures: {files}")


def document(found: Comparison, adapters: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All figures in full precision."""
    return {
        "format": FORMAT,
        "settings": dict(settings),
        "adapters": list(adapters),
        "total": {"cosine": found.cosine, "norm_a": found.norms[0], "norm_b": found.norms[1]},
        "only_a": {official(name): norm for name, norm in found.only_a.items()},
        "only_b": {official(name): norm for name, norm in found.only_b.items()},
        "modules": [{"module": official(name), **asdict(one)} for name, one in found.modules.items()],
    }


def rows(found: Comparison) -> str:
    """The modules as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["module", *(field.name for field in fields(Likeness))])
    writer.writerows([official(name), *asdict(one).values()] for name, one in found.modules.items())
    return text.getvalue()


def kind_of(name: str) -> str:
    """The official name without the block it lies in."""
    return official(name) if block_of(name) is None else official(name).split(".", 2)[2]


def page(found: Comparison) -> str:
    """The means of each kind of module, for a terminal."""
    kinds: dict[str, list[Likeness]] = {}
    for name, one in found.modules.items():
        kinds.setdefault(kind_of(name), []).append(one)
    table = Table(title="means by kind of module", title_justify="left")
    for column in ("module", "count", "cosine", "outputs shared", "by chance", "inputs shared", "by chance", "norms"):
        table.add_column(column, justify="left" if column == "module" else "right", no_wrap=True)
    for kind, these in kinds.items():
        means = [fmean(getattr(one, key) for one in these) for key in _SHOWN]
        norms = [fmean(getattr(one, key) for one in these) for key in ("norm_a", "norm_b")]
        table.add_row(kind, str(len(these)), *(f"{mean:.3f}" for mean in means), f"{norms[0]:.3g}, {norms[1]:.3g}")
    out = Console(highlight=False, markup=False)
    out.width = out.width if out.is_terminal else WIDTH
    with out.capture() as captured:
        out.print(table)
    alone = [f"only in {which}: {len(only)} modules" for which, only in _alone(found).items() if only]
    return "\n".join([*(line.rstrip() for line in captured.get().splitlines()), *alone])


_SHOWN = ("cosine", "outputs", "chance_outputs", "inputs", "chance_inputs")


def _alone(found: Comparison) -> dict[str, Mapping[str, float]]:
    return {"the first": found.only_a, "the second": found.only_b}
