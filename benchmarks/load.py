"""Time and peak anonymous memory of loading a checkpoint for training, relative to the weights that are loaded.

python -m benchmarks.load                   8 layers of the 2B shape, 1.1 GB in bf16

A random checkpoint is written in the official layout, whole and sharded, and loaded by fresh processes as training
loads it: into the stored format, and into fp32. Weights may be views of the file, so every page of them is looked at
once before the time is taken. The files have just been written and the system has them in memory: the time is that of
mapping, copying and building, not of the disk.

Anonymous memory is what a process has allocated for itself, pages of mapped files apart: RssAnon of the kernel's
/proc/PID/status. This process reads it in a loop while the other loads, some thousand times a second, and so does not
wait for the other's interpreter; its peak is taken over the value with everything imported and nothing loaded. What
would live between two looks is bounded from above by the growth of VmHWM, the kernel's own peak of all resident pages,
mapped ones included.
"""

import argparse
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from acetrain.command.quiet import quiet
from benchmarks import machine, timing

MODULE = "benchmarks.load"
PAGE = 4096
"""Bytes of a page of memory."""


def child(folder: str, format: str) -> None:
    """Load the base in `folder` when told to on stdin, and say on stdout how long it took and how large it is."""
    from acetrain.acestep.load import load_base
    from acetrain.composition.job import Composer
    from acetrain.composition.overrides import read
    from acetrain.composition.sources import PACKAGED, Sources
    from acetrain.training.precision import Format

    given = [read("cache=x"), read("model=folder"), read(f"model.path={folder}")]
    model = Composer("train", Sources((PACKAGED,))).compose(given).build().model
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    base = load_base(model, Format[format].dtype)
    for weight in base.dit.state_dict().values():
        weight.view(-1)[:: PAGE // weight.itemsize].sum()
    seconds = time.perf_counter() - start
    loaded = sum(weight.nbytes for weight in base.dit.state_dict().values())
    print(seconds, loaded, machine.memory("VmHWM"), flush=True)
    sys.stdin.readline()


def measure(folder: Path, format: str) -> dict[str, float]:
    """Seconds of one load, and its peaks relative to the bytes of the loaded weights."""
    command = [sys.executable, "-m", MODULE, "--child", str(folder), format]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the process that was to load {format} ended before it did")
        status = Path(f"/proc/{process.pid}/status")
        before = _read(status)
        process.stdin.write("go\n")
        peak, looks = _watch(status, process)
        seconds, loaded, resident = process.stdout.readline().split()
        process.stdin.write("end\n")
    return {
        "seconds": float(seconds),
        "loaded_bytes": float(loaded),
        "peak_anonymous": (peak - before["RssAnon"]) / float(loaded),
        "peak_resident": (float(resident) - before["VmRSS"]) / float(loaded),
        "looks": looks,
    }


def _watch(status: Path, process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Largest anonymous memory until the process has said something, and how often it was looked at."""
    assert process.stdout is not None
    peak = looks = 0
    while not select.select([process.stdout], [], [], 0.0002)[0]:
        peak, looks = max(peak, _read(status)["RssAnon"]), looks + 1
    return max(peak, _read(status)["RssAnon"]), looks


def _read(status: Path) -> dict[str, int]:
    found = re.findall(r"^(VmRSS|RssAnon):\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return {entry: int(kib) * 1024 for entry, kib in found}


def page(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    columns = ["layout", "into", "loaded (GB)", "seconds", "peak anonymous / loaded", "peak resident / loaded"]
    rows = [
        [
            found["layout"],
            found["into"],
            f"{found['loaded_bytes'] / 1e9:.2f}",
            timing.shown(found["seconds"]),
            timing.shown(found["peak_anonymous"]),
            timing.shown(found["peak_resident"]),
        ]
        for found in figures["loads"]
    ]
    title = "# Loading a checkpoint stored in bf16\n\nMedian (smallest-largest) over fresh processes."
    return f"{title}\n\n{machine.table(columns, rows)}"


def loads(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of every layout and format."""
    found = []
    for layout, shards in (("one file", 1), (f"{given.shards} shards", given.shards)):
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "acestep-v15-base"
            subprocess.run(
                [sys.executable, "-m", MODULE, "--write", str(folder), *map(str, (given.width, given.layers, shards))],
                check=True,
            )
            for format in ("bf16", "fp32"):
                runs = [measure(folder, format) for _ in range(given.rounds)]
                figures: dict[str, Any] = {key: timing.summary([run[key] for run in runs]) for key in runs[0]}
                figures["loaded_bytes"] = runs[0]["loaded_bytes"]
                found.append({"layout": layout, "into": format, **figures})
    return found


def main() -> int:
    """Measure, print and write."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8, help="layers of the DiT; each is 126 MB at full width")
    parser.add_argument("--width", type=int, default=2048, help="of the DiT, a multiple of 128")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="", help="folder of the results")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return 0
    if given.write:
        from benchmarks.checkpoint import write

        write(Path(given.write[0]), *map(int, given.write[1:]))
        return 0
    import torch

    about = machine.machine(torch.device("cpu"))
    about |= {"commit": machine.commit(), "command": machine.command(MODULE)}
    figures = {"loads": loads(given)}
    machine.write("load", given.out, about, figures, page(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
