"""Seconds of audio trained a second, padding, peak memory and model FLOP utilisation, on a mixed album of 13 songs.

python -m benchmarks.train_step --model tiny                      on a CPU
python -m benchmarks.train_step --model 2b --no-checkpointing     on a GPU: the released shape, random weights

The steps are the project's own, from plan to update, run by Lightning. They come in four arrangements (`album.ARMS`),
interleaved step by step, so that whatever else the machine does falls on all alike; a round is an epoch of each. Ratios
are taken within rounds. Songs lie in memory; fetching and copying them to the device is not timed.

Peak memory is the allocator's on a GPU. On a CPU it is the peak resident size (VmHWM) of a fresh process that makes the
largest step of the arrangement once. Model FLOP utilisation is the operations the songs need (`flops.step_flops`: no
padding, no recomputation, no gradient of frozen weights) over the time of the median round and over a peak: that of the
card's data sheet (`--peak` or `flops.PEAKS`), and that of a matrix product of the same format in the same run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from acetrain.command.quiet import quiet
from acetrain.data.batch import Batch
from acetrain.training.module import FlowMatching
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.trainer import Accelerator, Checkpointing, Compile, TrainerOption
from benchmarks import machine, timing
from benchmarks.album import ARMS, Album, frames, padded_frames
from benchmarks.base import SHAPES, base_of, frame_rate, module_of
from benchmarks.flops import known_peak, step_flops

MODULE = "benchmarks.train_step"


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    model: str
    device: torch.device
    format: Format
    rank: int
    checkpointing: bool
    songs_per_step: int
    budget_seconds: float
    scale: float
    """Factor on the lengths of the album's songs."""

    def album(self, module: FlowMatching) -> Album:
        return Album.of(frame_rate(self.model), module.silence.shape[1], module.null_condition.shape[0], self.scale)

    def max_frames(self) -> int:
        return max(1, round(self.budget_seconds * self.scale * frame_rate(self.model)))

    def module(self) -> FlowMatching:
        return module_of(base_of(self.model, self.format.dtype, self.device), self.rank, self.checkpointing)


@dataclass(frozen=True)
class Turn:
    """A step to take."""

    arm: str
    round: int
    index: int


@dataclass
class Turns(Dataset[list[Batch]]):
    """Steps made when they are asked for."""

    album: Album
    setting: Setting
    turns: Sequence[Turn]

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, index: int) -> list[Batch]:
        turn, setting = self.turns[index], self.setting
        epoch = self.album.epoch(turn.arm, turn.round, setting.songs_per_step, setting.max_frames())
        return epoch[turn.index]


def run(module: FlowMatching, turns: Turns) -> timing.Timer:
    """Take the steps in order."""
    timer = timing.Timer()
    setting = turns.setting
    accelerator = Accelerator.gpu if setting.device.type == "cuda" else Accelerator.cpu
    option = TrainerOption(
        accelerator=accelerator,
        devices=1,
        nodes=1,
        shard=False,
        validation_quantiles=1,
        checkpoint_every=1,
        keep=1,
        validate_every=1,
        clip=1.0,
        max_bad_steps=1,
        gradient_checkpointing=Checkpointing.full if setting.checkpointing else Checkpointing.none,
        gradient_checkpointing_every=1,
        compile=Compile.off,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = option.build(Precision(setting.format, setting.format, Quantised.none), [], timer, Path(folder))
        trainer.fit(module, DataLoader(turns, batch_size=None))
    return timer


def measure(setting: Setting, arms: Sequence[str], rounds: int, warmup: int, peak: float | None) -> dict[str, Any]:
    """The figures of each arrangement."""
    module = setting.module()
    album = setting.album(module)
    steps = len(album.epoch(arms[0], 0, setting.songs_per_step, setting.max_frames()))
    order = [Turn(arm, r, i) for r in range(warmup + rounds) for i in range(steps) for arm in _rotated(arms, r + i)]
    turns = Turns(album, setting, order)
    timer = run(module, turns)
    measured = timing.matmul_peak(setting.device, setting.format.dtype)
    needed = sum(step_flops(module.dit, len(latents), len(condition)) for latents, condition in album.songs)
    audio = sum(album.lengths) / frame_rate(setting.model)
    seconds = {arm: [0.0] * (warmup + rounds) for arm in arms}
    memory = dict.fromkeys(arms, 0)
    for turn, spent, peak_bytes in zip(order, timer.seconds, timer.peak_bytes, strict=True):
        seconds[turn.arm][turn.round] += spent
        memory[turn.arm] = max(memory[turn.arm], peak_bytes)
    figures: dict[str, Any] = {}
    for arm in arms:
        spent = seconds[arm][warmup:]
        reference = seconds[arms[0]][warmup:]
        figures[arm] = {
            "audio_seconds_per_second": timing.summary([audio / s for s in spent]),
            f"speed_against_{arms[0]}": timing.summary([a / b for a, b in zip(reference, spent, strict=True)]),
            "padding": padding(album, arm, setting, range(warmup, warmup + rounds)),
            "mfu_of_matmul": needed / statistics.median(spent) / measured,
            "mfu_of_card": None if peak is None else needed / statistics.median(spent) / peak,
            "peak_memory_mib": (memory[arm] or peak_rss(setting, arm)) / 2**20,
        }
    return {"arms": figures, "matmul_tflops": measured / 1e12, "needed_tflop_per_epoch": needed / 1e12}


def _rotated(arms: Sequence[str], by: int) -> list[str]:
    """The arms, each first in its turn."""
    start = by % len(arms)
    return [*arms[start:], *arms[:start]]


def padding(album: Album, arm: str, setting: Setting, rounds: Sequence[int]) -> float:
    """Share of the frames of some rounds that are padding."""
    steps = [step for r in rounds for step in album.epoch(arm, r, setting.songs_per_step, setting.max_frames())]
    return 1 - sum(map(frames, steps)) / sum(map(padded_frames, steps))


def peak_rss(setting: Setting, arm: str) -> int:
    """Peak resident bytes of a fresh process that makes the largest step of an arrangement's first epoch."""
    values = json.dumps({**vars(setting), "device": setting.device.type, "format": setting.format.name, "arm": arm})
    done = subprocess.run([sys.executable, "-m", MODULE, "--largest-step", values], check=True, stdout=subprocess.PIPE)
    return int(done.stdout.splitlines()[-1])


def largest_step(values: dict[str, Any]) -> int:
    """What `peak_rss` has its process do."""
    arm = values.pop("arm")
    setting = Setting(**values | {"device": torch.device(values["device"]), "format": Format[values["format"]]})
    module = setting.module()
    album = setting.album(module)
    epoch = album.epoch(arm, 0, setting.songs_per_step, setting.max_frames())
    index = max(range(len(epoch)), key=lambda i: max(batch.latents[..., 0].numel() for batch in epoch[i]))
    run(module, Turns(album, setting, [Turn(arm, 0, index)]))
    return machine.memory("VmHWM")


def page(setting: Setting, figures: Mapping[str, Any]) -> str:
    """The figures as a table."""
    arms = figures["arms"]
    first = next(iter(arms))
    columns = [
        "steps", "audio s/s", f"speed against {first}", "padding", "peak memory (MiB)", "MFU of matmul", "MFU of card",
    ]  # fmt: skip
    rows = []
    for arm, found in arms.items():
        card = found["mfu_of_card"]
        rows.append(
            [
                arm,
                timing.shown(found["audio_seconds_per_second"]),
                timing.shown(found[f"speed_against_{first}"]),
                f"{found['padding']:.1%}",
                f"{found['peak_memory_mib']:.0f}",
                f"{found['mfu_of_matmul']:.1%}",
                "" if card is None else f"{card:.1%}",
            ]
        )
    meaning = "\n".join(f"- {arm}: {text}" for arm, text in ARMS.items() if arm in arms)
    title = f"# Training {setting.model}\n\nMedian (smallest-largest) over rounds."
    return f"{title}\n\n{machine.table(columns, rows)}\n\n{meaning}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", *SHAPES], default="tiny")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--format", choices=["fp32", "bf16"], help="fp32 on a CPU, bf16 on a GPU")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--songs-per-step", type=int, default=4)
    parser.add_argument("--budget", type=float, default=600.0, help="frame budget in seconds of audio, before --scale")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the songs' lengths, 120 to 300 s")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma-separated; ratios are to the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--peak", type=float, help="the card's TFLOP/s in this format, where it is not in the table")
    parser.add_argument("--out", default="", help="folder of the results")
    parser.add_argument("--largest-step", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Measure, print and write."""
    quiet()
    given = arguments().parse_args()
    if given.largest_step:
        print(largest_step(json.loads(given.largest_step)))
        return 0
    device = machine.device_of(given.device)
    if given.model in SHAPES and device.type != "cuda":
        said = f"--model {given.model}: needs a CUDA device, torch finds none; --model tiny runs on a CPU"
        print(said, file=sys.stderr)
        return 2
    on_gpu = device.type == "cuda"
    format = Format[given.format or ("bf16" if on_gpu else "fp32")]
    lengths = (given.songs_per_step, given.budget, given.scale)
    setting = Setting(given.model, device, format, given.rank, given.checkpointing, *lengths)
    about = machine.machine(device) | {"commit": machine.commit(), "command": machine.command(MODULE)}
    peak = given.peak * 1e12 if given.peak else known_peak(torch.cuda.get_device_name(device)) if on_gpu else None
    figures = measure(setting, given.arms.split(","), given.rounds, given.warmup, peak)
    about |= {"base and compute": format.name, "LoRA rank": str(given.rank)}
    about |= {"gradient checkpointing": "on" if given.checkpointing else "off"}
    about |= {"songs": f"13 of {120 * given.scale:g} to {300 * given.scale:g} s", "songs a step": str(lengths[0])}
    about |= {"frame budget": str(setting.max_frames()), "matmul": f"{figures['matmul_tflops']:.3g} TFLOP/s"}
    name = f"train_step_{given.model}_{'gpu' if on_gpu else 'cpu'}{'' if given.checkpointing else '_kept'}"
    machine.write(name, given.out, about, figures, page(setting, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
