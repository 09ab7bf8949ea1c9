"""What each kind of adapter brings and costs at the same number of parameters, from the runs of `sweep=adapters`.

acetrain synthesize out_dir=songs style=marimba count=12
acetrain preprocess songs=songs cache=cache
acetrain train cache=cache out_dir=runs/adapters sweep=adapters
python -m benchmarks.adapters runs/adapters

Held-out loss is the mean over songs and quantiles after the last step, and its fall from that of the base; seconds a
step are the median of each run's steps but the first three. Peak memory is that of a fresh process that trains one step
of the kind's first run: on a GPU the allocator's, on a CPU the resident size, the base's included.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from benchmarks import machine, timing

MODULE = "benchmarks.adapters"
FIRST = "lora"
SKIPPED = 3
SIZES = ("rank", "target_rank", "factor", "block_size", "factors")


@dataclass(frozen=True)
class Kind:
    """The runs of one kind of adapter, a seed each."""

    name: str
    size: str
    lr: float
    parameters: int
    start: list[float]
    """Held-out loss of the base, by run."""
    end: list[float]
    seconds: list[float]
    file_bytes: int
    memory_mb: float

    @property
    def falls(self) -> list[float]:
        """How much of the base's held-out loss each run has taken off."""
        return [1 - end / start for start, end in zip(self.start, self.end, strict=True)]


def table_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with file.open() as stream:
        return list(csv.DictReader(stream))


def held_out(run: Path) -> tuple[float, float]:
    """Held-out loss of the base and after the last step."""
    losses: dict[int, list[float]] = {}
    for row in table_of(run / "validation.csv"):
        losses.setdefault(int(row["step"]), []).append(float(row["loss"]))
    return statistics.mean(losses[0]), statistics.mean(losses[max(losses)])


def peak_memory(run: Path) -> float:
    """MiB of a fresh process that repeats the run's first step."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"experiment={run.resolve() / 'config.yaml'}", f"out_dir={folder}/run", "max_steps=1"]
        settings += ["schedule.warmup=0", "logger=csv"]
        subprocess.run([sys.executable, "-m", "acetrain", "train", *settings], check=True, stdout=subprocess.DEVNULL)
        return float(table_of(Path(folder) / "run" / "metrics.csv")[-1]["peak_memory_mb"])


def kind_of(name: str, runs: Sequence[Path]) -> Kind:
    """The figures of a kind."""
    config: Any = OmegaConf.load(runs[0] / "config.yaml")
    losses = [held_out(run) for run in runs]
    seconds = [[float(row["seconds"]) for row in table_of(run / "metrics.csv")][SKIPPED:] for run in runs]
    return Kind(
        name=name,
        size=", ".join(f"{key} {config.adapter[key]}" for key in SIZES if key in config.adapter),
        lr=config.optimizer.lr,
        parameters=sum(int(row["parameters"]) for row in table_of(runs[0] / "modules.csv")),
        start=[start for start, _ in losses],
        end=[end for _, end in losses],
        seconds=[statistics.median(run) for run in seconds],
        file_bytes=sum(file.stat().st_size for file in (runs[0] / "adapter").glob("*.safetensors")),
        memory_mb=peak_memory(runs[0]),
    )


def chosen(run: Path) -> str:
    """The adapter that a run's configuration chooses."""
    config: Any = OmegaConf.load(run / "config.yaml")
    found = [entry[key] for entry in config.defaults for key in entry if str(key).endswith("/adapter")]
    return str(found[-1])


def kinds_of(folder: Path) -> list[Kind]:
    """Each kind below the folder of a multirun, by what it takes off the held-out loss, most first."""
    runs: dict[str, list[Path]] = {}
    for run in sorted(file.parent for file in folder.glob("*/config.yaml")):
        if (run / "adapter").exists():
            runs.setdefault(chosen(run), []).append(run)
    kinds = [kind_of(name, found) for name, found in runs.items()]
    return sorted(kinds, key=lambda kind: -statistics.mean(kind.falls))


def page(kinds: Sequence[Kind]) -> str:
    """The figures as a table."""
    budget = next((kind.parameters for kind in kinds if kind.name == FIRST), kinds[0].parameters)
    columns = ["adapter", "size", "lr", "parameters", "of LoRA's", "held-out loss", "off the base's"]
    columns += ["s a step", "peak memory (MiB)", "file (KiB)"]
    rows = [
        [
            kind.name,
            kind.size,
            f"{kind.lr:g}",
            f"{kind.parameters:,}",
            f"{kind.parameters / budget:.0%}",
            timing.shown(timing.summary(kind.end), 4),
            f"{statistics.mean(kind.falls):.1%}",
            timing.shown(timing.summary(kind.seconds)),
            f"{kind.memory_mb:.0f}",
            f"{kind.file_bytes / 1024:.0f}",
        ]
        for kind in kinds
    ]
    seeds = len(kinds[0].end)
    title = f"# Adapters at one number of parameters\n\nThe tiny base, median (smallest-largest) over {seeds} seeds."
    return f"{title}\n\n{machine.table(columns, rows)}\n\n{NOTES}"


NOTES = """All train the attention of the tiny base for the same steps on the same songs, a style it has not heard;
`experiments/equal_budget/` holds their settings. Sizes are whole numbers, so that budgets differ by a few percent. Four
kinds cannot have as many parameters: VeRA would need a rank of about 3000, (IA)³ has one factor an output and no more,
OFT's next smaller block that divides has half of them; AdaLoRA trains half as many again as it keeps. `full` is the
attention of one block out of four. Learning rates are usual ones of each kind, not tuned: the order is theirs too, and
that of a short run, which AdaLoRA, begun at zero and held to orthogonal factors, has hardly left. Seconds a step are of
runs made one after the other, with whatever else the machine did then."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the multirun")
    parser.add_argument("--out", default="", help="folder of the results")
    return parser


def main() -> int:
    """Read, print and write."""
    given = arguments().parse_args()
    kinds = kinds_of(given.runs)
    if not kinds:
        print(f"{given.runs}: holds no finished run; acetrain train sweep=adapters makes them", file=sys.stderr)
        return 2
    about: Mapping[str, str] = machine.machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    about |= {"commit": machine.commit(), "command": machine.command(MODULE)}
    about |= {"runs": "acetrain train cache=cache out_dir=runs/adapters sweep=adapters"}
    machine.write("adapters", given.out, about, [vars(kind) for kind in kinds], page(kinds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
