"""Seconds that `acetrain prune method=weights` takes for a LoRA on every linear layer of the 2B DiT's blocks.

python -m benchmarks.prune                   264 modules of rank 64, 327 MB

The adapter is random, its ranks of falling strength. Each try is a process of its own, timed from its start to its end:
Python, the composition of the configuration, torch, reading, truncation, and every file written and synced. CPU seconds
are the process's and its threads' together; on a machine that does nothing else the wall clock shows less, on one that
does it shows more. The adapter has just been written and the system has it in memory.

Beside it, what scripts do that form B A: a dense SVD of one update of each shape, in fp32 with all cores, times the
modules of the shape.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from acetrain.acestep.names import linear_layers
from acetrain.adapters.files import low_rank
from acetrain.adapters.low_rank import LowRank
from benchmarks import machine, timing

WIDTHS = {"hidden_size": 2048, "intermediate_size": 6144, "head_dim": 128}
HEADS = {"num_attention_heads": 16, "num_key_value_heads": 8}
"""Sizes of the released 2B DiT."""


def updates(layers: int, rank: int) -> dict[str, LowRank]:
    """Random factors on every linear layer of `layers` blocks."""
    named = linear_layers({**WIDTHS, **HEADS, "num_hidden_layers": layers})
    draw, strengths = torch.Generator().manual_seed(0), torch.logspace(0, -2, rank)
    return {
        name: LowRank(torch.randn(m, rank, generator=draw) * strengths, torch.randn(rank, n, generator=draw))
        for name, (m, n) in named.items()
        if name.startswith("layers.")
    }


def pruned(adapter: Path, out: Path, rank: int) -> dict[str, float]:
    """Wall-clock and CPU seconds of one pruning in a process of its own."""
    given = [f"adapter_path={adapter}", f"out_dir={out}", f"rank={rank}"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "acetrain", "prune", *given], check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu}


def dense(found: dict[str, LowRank]) -> list[dict[str, Any]]:
    """Seconds of a dense SVD of one update of each shape, and how many modules have it."""
    counts = Counter(update.shape for update in found.values())
    figures = []
    for shape, count in counts.items():
        whole = next(update for update in found.values() if update.shape == shape).dense()
        start = time.perf_counter()
        torch.linalg.svd(whole, full_matrices=False)
        figures.append({"shape": list(shape), "modules": count, "seconds": time.perf_counter() - start})
    return figures


def page(figures: dict[str, Any]) -> str:
    """The results as Markdown."""
    tries, modules = figures["tries"], figures["modules"]
    shown = {key: timing.shown(timing.summary([one[key] for one in tries])) for key in ("seconds", "cpu_seconds")}
    whole = sum(one["modules"] * one["seconds"] for one in figures["dense"])
    rows = [["acetrain prune, all of it", f"{modules}", shown["seconds"], shown["cpu_seconds"]]]
    for one in figures["dense"]:
        name = f"dense SVD of one [{one['shape'][0]}, {one['shape'][1]}]"
        rows.append([name, f"1 of {one['modules']}", f"{one['seconds']:.2f}", ""])
    rows.append(["dense SVDs of all, extrapolated from these", f"{modules}", f"{whole:.0f}", ""])
    title = f"# Pruning a rank-{figures['rank']} adapter by its weights to rank {figures['to']}\n\n"
    about = f"Median (smallest-largest) of {len(tries)} processes; the adapter is {figures['bytes'] / 1e6:.0f} MB.\n\n"
    return title + about + machine.table(["what", "modules", "seconds", "CPU seconds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="blocks of the DiT")
    parser.add_argument("--rank", type=int, default=64, help="rank of the adapter")
    parser.add_argument("--to", type=int, default=32, help="rank it is truncated to")
    parser.add_argument("--tries", type=int, default=5, help="processes")
    parser.add_argument("--out", default="", help="folder of the results instead of benchmarks/results")
    given = parser.parse_args()
    about = {**machine.machine(torch.device("cpu")), "commit": machine.commit()}
    about["command"] = machine.command("benchmarks.prune")
    found = updates(given.layers, given.rank)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "adapter"
        low_rank.save(found, {}, False, torch.float32, folder, "turbo", {})
        size = sum(file.stat().st_size for file in folder.iterdir())
        tries = [pruned(folder, Path(temporary) / f"out-{number}", given.to) for number in range(given.tries)]
    sizes = {"modules": len(found), "rank": given.rank, "to": given.to, "bytes": size}
    figures = {**sizes, "tries": tries, "dense": dense(found)}
    about["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    machine.write("prune", given.out, about, figures, page(figures))


if __name__ == "__main__":
    main()
