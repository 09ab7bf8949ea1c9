"""Time and peak memory of `acetrain sensitivity` on a song, relative to a plain forward and backward pass.

python -m benchmarks.sensitivity                    the 2B shape, one song of 3,000 tokens
python -m benchmarks.sensitivity --layers 4         a sixth of its depth, where memory is short

Weights are random and frozen. The plain pass gives gradients to its inputs alone: latents and condition. Both recompute
every block's activations in the backward pass. The other pass adds up the gradients of all linear layers as sketches,
as the job does between reading a song and going on to the next, when the song ends a group of the jackknife.

Peak memory is that of a fresh process for either, writing the sums of a unit included: on a GPU the allocator's; on a
CPU the resident memory, counted from when everything is imported and nothing built, its peak reset by the kernel before
the first pass, and malloc told to give back what is freed. Times are of passes in one process in turn: on a GPU by the
clock, on a CPU the process's own seconds on one thread, which other work on the machine moves less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acetrain.analysis.accumulate import Accumulator, Sides
from acetrain.analysis.grid import MOST_GROUPS, Unit
from acetrain.analysis.parts import Parts
from acetrain.analysis.probe import Probe
from acetrain.analysis.sketch import Signs
from acetrain.analysis.state import State
from acetrain.command.quiet import quiet
from acetrain.data.batch import Batch, collate
from acetrain.flow.loss import Mse, Reduction
from acetrain.flow.weighting import Unweighted
from acetrain.training.draws import fixed
from acetrain.training.objective import Objective
from acetrain.training.precision import Format
from benchmarks import machine, timing
from benchmarks.base import SHAPES, base_of

MODULE = "benchmarks.sensitivity"
ARMS = ("plain", "sketch")
ROWS = 400
"""Rows of the song's condition."""
TARGETS = {"memory": 1.2, "time": 1.3}
"""What the ratios must not exceed."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "100000", "MALLOC_TRIM_THRESHOLD_": "100000"}
"""Freed blocks go back to the system: what malloc would keep of them is not what a pass needs."""


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    model: str
    device: str
    format: str
    layers: int
    tokens: int
    sketch: int
    rounds: int

    @property
    def name(self) -> str:
        """Of the results: what is not the 2B shape, whole, in bf16 on a CPU."""
        parts = {
            self.model: self.model != "2b",
            f"{self.layers}_layers": self.layers > 0,
            "gpu": self.device == "cuda",
            self.format: self.format != "bf16",
        }
        return "_".join(["sensitivity", *(part for part, told in parts.items() if told)])

    def objective(self) -> Objective:
        """A frozen base of this depth on the device, blocks recomputed."""
        name = self.model
        if self.layers:
            name = f"{self.model}, {self.layers} layers"
            SHAPES[name] = SHAPES[self.model] | {"num_hidden_layers": self.layers}
        base = base_of(name, Format[self.format].dtype, torch.device(self.device))
        base.dit.eval().requires_grad_(False).recompute(1)
        return Objective.on(base, Mse(Reduction.song), Unweighted(), torch.device(self.device))

    def batch(self, objective: Objective) -> Batch:
        """One song of that many tokens, two latent frames each."""
        draw = torch.Generator().manual_seed(0)
        channels, width = objective.silence.shape[1], len(objective.null_condition)
        song = torch.randn(2 * self.tokens, channels, generator=draw), torch.randn(ROWS, width, generator=draw)
        return collate([song], [(0, "benchmark")], 1.0).to(torch.device(self.device))


class Passes:
    """The two kinds of pass over one song."""

    def __init__(self, setting: Setting, arms: tuple[str, ...], folder: Path) -> None:
        self.state = State(folder)
        self.objective = setting.objective()
        self.batch = setting.batch(self.objective)
        self.draws = fixed(self.batch, 0.5, 0)
        layers = {name: one for name, one in self.objective.dit.named_modules() if isinstance(one, nn.Linear)}
        self.probe = Probe(layers)
        if "sketch" in arms:
            sides = Sides(Signs(setting.sketch, 0, 0), torch.device(setting.device), Format[setting.format].dtype)
            self.probe.accumulators = {
                name: Accumulator((one.out_features, one.in_features), sides) for name, one in layers.items()
            }
        self.parts = Parts(folder, self.probe.accumulators, MOST_GROUPS)

    def plain(self) -> None:
        """Forward and backward, gradients to the inputs."""
        inputs = self.batch.to(self.batch.latents.device)
        inputs.latents = inputs.latents.detach().requires_grad_(True)
        inputs.condition = inputs.condition.detach().requires_grad_(True)
        self.objective.song_losses(inputs, self.draws).sum().backward()
        assert inputs.latents.grad is not None and inputs.condition.grad is not None

    def sketch(self) -> None:
        """The same with the gradients of all weights added up."""
        with self.probe:
            self.probe.visit(self.objective.song_losses(self.batch, self.draws).sum(), 1.0)
        assert self.probe.broken() is None
        self.parts.keep(0)

    def finish(self) -> None:
        """Write what was added up."""
        found = {
            name: {part: value.cpu() for part, value in {**one.sums, "groups": self.parts.of(name)}.items()}
            for name, one in self.probe.accumulators.items()
        }
        if found:
            self.state.write(Unit(0, 0, (), ()), found)


def seconds(passes: Passes, arm: str, on_gpu: bool) -> float:
    """How long one pass took."""
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    getattr(passes, arm)()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def peak(setting: Setting, arm: str) -> dict[str, float]:
    """Bytes that an arm's passes take at most, all that is built included."""
    before, on_gpu = machine.memory("VmRSS"), setting.device == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        passes = Passes(setting, (arm,), Path(folder))
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")
        for _ in range(setting.rounds):
            getattr(passes, arm)()
        passes.finish()
    return {"bytes": torch.cuda.max_memory_allocated() if on_gpu else machine.memory("VmHWM") - before}


def times(setting: Setting) -> dict[str, list[float]]:
    """Seconds of each arm, in turn; the first of each is not counted."""
    taken: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        passes = Passes(setting, ARMS, Path(folder))
        for _ in range(setting.rounds + 1):
            for arm in ARMS:
                taken[arm].append(seconds(passes, arm, setting.device == "cuda"))
    return {arm: found[1:] for arm, found in taken.items()}


def child(setting: Setting, task: str) -> Any:
    """What a process of its own measures, as it says it on its last line."""
    command = [sys.executable, "-m", MODULE, "--child", task, json.dumps(setting.__dict__)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | MALLOC)
    return json.loads(done.stdout.splitlines()[-1])


def measure(setting: Setting) -> dict[str, Any]:
    """Peaks and times of either arm, and their ratios."""
    peaks = {arm: child(setting, arm)["bytes"] for arm in ARMS}
    taken = child(setting, "times")
    each = [sketch / plain for plain, sketch in zip(taken["plain"], taken["sketch"], strict=True)]
    return {
        "peak_bytes": peaks,
        "seconds": {arm: timing.summary(found) for arm, found in taken.items()},
        "ratios": {"memory": peaks["sketch"] / peaks["plain"], "time": timing.summary(each)},
    }


def page(setting: Setting, figures: Mapping[str, Any]) -> str:
    """The figures as a table."""
    memory, ratio = figures["ratios"]["memory"], figures["ratios"]["time"]
    rows = [[arm, f"{figures['peak_bytes'][arm] / 1e9:.2f}", timing.shown(figures["seconds"][arm])] for arm in ARMS]
    rows.append(["sketch / plain", f"{memory:.3f}", timing.shown(ratio, 3)])
    rows.append(["at most", f"{TARGETS['memory']:.1f}", f"{TARGETS['time']:.1f}"])
    layers = f"{setting.layers} layers" if setting.layers else "all layers"
    title = (
        f"# A sensitivity pass against a plain one\n\n{setting.model} shape, {layers}, a song of {setting.tokens:,} "
    )
    title += f"tokens, sketches of {setting.sketch}; seconds are medians (smallest-largest)."
    return f"{title}\n\n{machine.table(['pass', 'peak memory (GB)', 'seconds'], rows)}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", *SHAPES], default="2b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--format", choices=["fp32", "bf16"], help="of weights and products; bf16 on a GPU, else fp32")
    parser.add_argument("--layers", type=int, default=0, help="of the DiT, 0 for all")
    parser.add_argument("--tokens", type=int, default=3000, help="of the song, two latent frames each")
    parser.add_argument("--sketch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="", help="folder of the results")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Measure, print and write."""
    quiet()
    given = arguments().parse_args()
    if given.child:
        torch.set_num_threads(1)
        task, setting = given.child[0], Setting(**json.loads(given.child[1]))
        print(json.dumps(times(setting) if task == "times" else peak(setting, task)))
        return 0
    device = machine.device_of(given.device)
    format = given.format or ("bf16" if device.type == "cuda" else "fp32")
    setting = Setting(given.model, device.type, format, given.layers, given.tokens, given.sketch, given.rounds)
    about = machine.machine(device) | {"commit": machine.commit(), "command": machine.command(MODULE), "format": format}
    figures = measure(setting)
    machine.write(setting.name, given.out, about, figures, page(setting, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
