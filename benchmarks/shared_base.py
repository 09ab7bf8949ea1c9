"""Wall time and peak memory of a sweep of 8 runs: each a process, one after another on a shared base, and packed.

python -m benchmarks.shared_base

The runs differ in seed and learning rate and train a LoRA on the attention of the tiny base, and of a wider one with
random weights, stored in bf16, next to whose loading a process's start is less. Every way does the same runs on the
same songs with the commands that a user gives: `acetrain train` for each, or one `acetrain train -m` for all, as it is
and with packs of 4 and of 8. All ways are gone through in turn, round by round, on one thread.

Seconds are the wall clock's from the start of the first process to the end of the last; CPU seconds are those of the
processes and tell the same on a machine that does other things besides. Peak memory is the largest
resident size of a process (`ru_maxrss`), files that are mapped included; separate runs are made one after another, and
as many at a time would take it as many times. Training is what the runs' steps took, as their `metrics.csv` says, those
of a pack counted once. Ratios are to separate runs of the same round. How far the weights of packed runs end from those
of separate ones is the largest over the runs, relative to their norm; of runs that share a base it must be 0.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.model import EMBEDDED, Tiny
from benchmarks import machine, timing

MODULE = "benchmarks.shared_base"
SEEDS, RATES = (0, 1, 2, 3), (1e-3, 3e-3)
RUNS = len(SEEDS) * len(RATES)
WAYS = {
    "separate processes": (),
    "shared base": (),
    "packs of 4": ("sweep.pack=4",),
    "packs of 8": ("sweep.pack=8",),
}
SEPARATE = next(iter(WAYS))
DIT = "transformer/*.safetensors"


@dataclass(frozen=True)
class Size:
    """A base and how long its runs are."""

    steps: int
    songs_per_step: int
    wider: dict[str, int]
    """Its DiT's configuration as it differs from the tiny one's; empty for that."""


SIZES = {
    "tiny": Size(10, 4, {}),
    "wide": Size(2, 1, {"hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 8, "head_dim": 128}),
}


def widened(folder: Path, wider: dict[str, int], layers: int) -> int:
    """Copy the tiny base with a wider random DiT in bf16 in place of its own; the DiT's parameters."""
    shutil.copytree(EMBEDDED, folder)
    shutil.rmtree(folder / "transformer")
    config = {**Tiny("tiny", "", None, None, None).config("transformer"), **wider, "num_hidden_layers": layers}
    torch.manual_seed(0)
    dit: Any = MaskedDiT.from_config(config)
    dit.to(torch.bfloat16).save_pretrained(folder / "transformer")
    return sum(parameter.numel() for parameter in dit.parameters())


@dataclass(frozen=True)
class Took:
    """What a process took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Its largest resident size."""


def acetrain(*arguments: str) -> Took:
    """What a process takes that does a job to its end."""
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "acetrain", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return Took(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def go(way: str, settings: Sequence[str], folder: Path) -> dict[str, Any]:
    """Do all runs one way."""
    given = ["train", *settings, f"out_dir={folder}"]
    if way == SEPARATE:
        took = [
            acetrain(*given, f"out_dir={folder}/{seed}-{rate}", f"seed={seed}", f"optimizer.lr={rate}")
            for seed in SEEDS
            for rate in RATES
        ]
    else:
        grid = [f"seed={','.join(map(str, SEEDS))}", f"optimizer.lr={','.join(map(str, RATES))}"]
        took = [acetrain(*given, "-m", *grid, *WAYS[way])]
    runs = {json.dumps(identity_of(file), sort_keys=True): file.parent for file in folder.glob("*/identity.json")}
    if len(runs) != RUNS:
        raise RuntimeError(f"{way}: {len(runs)} runs of {RUNS}")
    packed = int(WAYS[way][0].partition("=")[2]) if WAYS[way] else 1
    return {
        "seconds": sum(one.seconds for one in took),
        "cpu_seconds": sum(one.cpu_seconds for one in took),
        "training": sum(map(trained, runs.values())) / packed,
        "peak_bytes": max(one.peak_bytes for one in took),
        "runs": runs,
    }


def identity_of(file: Path) -> dict[str, Any]:
    """What a run is."""
    return json.loads(file.read_text())


def trained(run: Path) -> float:
    """Seconds that a run's steps took."""
    with (run / "metrics.csv").open() as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def distance(ours: Path, theirs: Path) -> float:
    """Of two runs' weights, relative to the norm of the second's."""
    one, other = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (ours, theirs))
    apart = sum(float((one[name] - weight).double().square().sum()) for name, weight in other.items())
    return (apart / sum(float(weight.double().square().sum()) for weight in other.values())) ** 0.5


def measure(size: Size, model: Sequence[str], cache: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of every way."""
    quick = [
        "logger=csv",
        "trainer=cpu",
        "precision=fp32",
        "data.workers=0",
        f"max_steps={size.steps}",
        f"cache={cache}",
    ]
    quick += ["schedule=constant", "schedule.warmup=0", "trainer.validate_every=1000", "trainer.checkpoint_every=1000"]
    settings = [*quick, *model, "data.max_frames=6000", "name=run", f"songs_per_step={size.songs_per_step}"]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as parent:
            turn = {way: go(way, settings, Path(parent) / str(number)) for number, way in enumerate(WAYS)}
            alone = turn[SEPARATE]
            for way, done in turn.items():
                apart = [distance(run, alone["runs"][identity]) for identity, run in done["runs"].items()]
                figures = {key: done[key] for key in ("seconds", "cpu_seconds", "training", "peak_bytes")}
                ratios = {f"{key}_ratio": figures[key] / alone[key] for key in figures}
                found[way].append({**figures, **ratios, "distance": max(apart)})
    return {
        way: {key: timing.summary([one[key] for one in several]) for key in several[0]}
        for way, several in found.items()
    }


def page(figures: dict[str, Any]) -> str:
    """The figures as tables."""
    title = f"# A sweep of {RUNS} runs: separate, on a shared base, packed\n\nMedian (smallest-largest) over rounds."
    parts = [title]
    for name, found in figures.items():
        columns = ["", "s", "of separate", "CPU s", "of separate", "training (s)", "of separate"]
        columns += ["peak (MiB)", "of separate", "apart"]
        rows = [
            [
                way,
                *(
                    shown
                    for key in ("seconds", "cpu_seconds", "training")
                    for shown in (f"{one[key]['median']:.1f}", timing.shown(one[f"{key}_ratio"]))
                ),
                f"{one['peak_bytes']['median'] / 2**20:.0f}",
                timing.shown(one["peak_bytes_ratio"]),
                f"{one['distance']['max']:.1g}",
            ]
            for way, one in found["ways"].items()
        ]
        size = SIZES[name]
        about = f"{found['parameters'] / 1e6:.1f} M parameters, {size.steps} steps of {size.songs_per_step} songs a run"
        parts.append(f"## {name}: {about}\n\n{machine.table(columns, rows)}")
    return "\n\n".join(parts)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--bases", nargs="+", choices=list(SIZES), default=list(SIZES))
    found.add_argument("--layers", type=int, default=6, help="of the wide DiT")
    found.add_argument("--rounds", type=int, default=2)
    found.add_argument("--out", default="", help="folder of the results")
    return found


def main() -> int:
    """Measure, print and write."""
    given = parser().parse_args()
    about = machine.machine(torch.device("cpu")) | {"threads": "1"}
    about |= {"commit": machine.commit(), "command": machine.command(MODULE)}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        acetrain("synthesize", f"out_dir={folder / 'songs'}", "count=12", "style=marimba")
        acetrain("preprocess", "model=tiny", f"songs={folder / 'songs'}", f"cache={folder / 'cache'}")
        for name in given.bases:
            size, model = SIZES[name], ["model=tiny"]
            parameters = sum(weight.numel() for weight in load_file(next(EMBEDDED.glob(DIT))).values())
            if size.wider:
                parameters = widened(folder / name, size.wider, given.layers)
                model.append(f"model.path={folder / name}")
            figures[name] = {"parameters": parameters, "ways": measure(size, model, folder / "cache", given.rounds)}
    about["load_after"] = f"{statistics.fmean(os.getloadavg()[:1]):.1f}"
    machine.write("shared_base", given.out, about, figures, page(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
