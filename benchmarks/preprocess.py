"""Seconds of audio preprocessed a second, by stage, and peak memory: the whole job on songs made for it.

python -m benchmarks.preprocess                        the tiny model on a CPU
python -m benchmarks.preprocess --model base           a released one, found below ACESTEP_CHECKPOINTS_DIR

A round preprocesses all songs into a new cache. The job runs as the command runs it, with the calls of each stage
timed; what is left of the job's time is loading and hashing weights, checking folders and writing files. Stages are in
seconds of audio over the seconds their calls took. Peak memory is what the job says of its passes: the allocator's on a
GPU, on a CPU the largest resident size of the process so far, which has the libraries and earlier rounds in it.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from acetrain.cli import main as acetrain
from acetrain.command.quiet import quiet
from acetrain.data import audio, encode
from benchmarks import machine, timing

MODULE = "benchmarks.preprocess"
RATE = 44100
FORMATS = (".wav", ".flac", ".mp3", ".ogg")
STAGES: dict[str, tuple[Any, str]] = {
    "check: decode and hash": (audio, "inspect"),
    "decode and resample": (audio, "read"),
    "latents: VAE": (encode, "encode_latents"),
    "conditions: text encoder": (encode, "encode_prompt"),
    "conditions: condition encoder": (encode, "encode_condition"),
}
"""Stage -> the function whose calls are its time."""
LYRICS = "[Verse]\n" + "\n".join(f"line {number} of a verse that goes on for a while" for number in range(16))


def write_songs(folder: Path, songs: int, seconds: float) -> None:
    """Tones in noise with captions, lyrics and metadata, in four formats."""
    for index in range(songs):
        draw = np.random.default_rng(index)
        t = np.arange(round(seconds * RATE)) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (110 + 20 * index) * t)
        stereo = tone[:, None] + 0.05 * draw.standard_normal((len(t), 2))
        file = folder / f"song{index:03}{FORMATS[index % len(FORMATS)]}"
        with soundfile.SoundFile(file, "w", RATE, 2) as stream:
            for start in range(0, len(stereo), RATE):  # the ogg encoder overruns its stack on a long block
                stream.write(stereo[start : start + RATE].astype(np.float32))
        file.with_suffix(".caption.txt").write_text(
            f"a warm electronic piece with pads and a slow beat, number {index}"
        )
        file.with_suffix(".lyrics.txt").write_text(LYRICS)
        file.with_suffix(".json").write_text('{"bpm": 96, "keyscale": "A minor"}')


@contextlib.contextmanager
def timed(spent: dict[str, float], device: torch.device) -> Iterator[None]:
    """Within it, the seconds of every stage's calls are added up in `spent`."""

    def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            made = function(*given, **named)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - start
            return made

        return run

    with contextlib.ExitStack() as undo:
        for stage, (module, name) in STAGES.items():
            original = getattr(module, name)
            undo.callback(setattr, module, name, original)
            setattr(module, name, clocked(stage, original))
        yield


@contextlib.contextmanager
def peaks_of_passes(peaks: dict[str, int]) -> Iterator[None]:
    """Within it, the peak memory of every pass of the encoder is kept in `peaks`, in bytes."""
    original = encode.Encoder.encode

    def run(encoder: encode.Encoder, *given: Any) -> encode.Encoded:
        made = original(encoder, *given)
        peaks.update({name: max(peak, peaks.get(name, 0)) for name, peak in made.peaks.items()})
        return made

    with contextlib.ExitStack() as undo:
        undo.callback(setattr, encode.Encoder, "encode", original)
        setattr(encode.Encoder, "encode", run)  # noqa: B010  (pyright wants the parameters' names)
        yield


def one_round(songs: Path, cache: Path, model: str, device: torch.device, peaks: dict[str, int]) -> dict[str, float]:
    """Seconds of each stage, `rest` and `total` of one preprocessing. Raises RuntimeError where the job fails."""
    spent: dict[str, float] = {}
    said = io.StringIO()
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    start = time.perf_counter()
    with timed(spent, device), peaks_of_passes(peaks), contextlib.redirect_stdout(said):
        code = acetrain(
            ["preprocess", f"model={model}", f"songs={songs}", f"cache={cache}", f"accelerator={accelerator}"]
        )
    total = time.perf_counter() - start
    if code:
        raise RuntimeError(f"preprocess ended with {code}: {said.getvalue()}")
    return {**spent, "rest": total - sum(spent.values()), "total": total}


def measure(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of audio a second, by stage, and the peaks in bytes."""
    rounds, peaks = [], {}
    with tempfile.TemporaryDirectory() as folder:
        songs = Path(folder) / "songs"
        songs.mkdir()
        write_songs(songs, given.songs, given.seconds)
        for number in range(given.warmup + given.rounds):
            rounds.append(one_round(songs, Path(folder) / f"cache{number}", given.model, device, peaks))
    audio_seconds = given.songs * given.seconds
    kept = rounds[given.warmup :]
    stages = {
        name: {
            "audio_seconds_per_second": timing.summary([audio_seconds / spent[name] for spent in kept]),
            "share": timing.summary([spent[name] / spent["total"] for spent in kept]),
        }
        for name in [*STAGES, "rest", "total"]
    }
    return {"stages": stages, "peak_mib": {name: peak / 2**20 for name, peak in peaks.items()}}


def page(model: str, figures: dict[str, Any]) -> str:
    """The figures as tables."""
    rows = [
        [name, timing.shown(found["audio_seconds_per_second"], 1), f"{found['share']['median']:.0%}"]
        for name, found in figures["stages"].items()
    ]
    peaks = [[name, f"{peak:.0f}"] for name, peak in figures["peak_mib"].items()]
    title = f"# Preprocessing with {model}\n\nMedian (smallest-largest) over rounds."
    stages = machine.table(["stage", "audio s/s", "share of the time"], rows)
    return f"{title}\n\n{stages}\n\n{machine.table(['pass', 'peak memory (MiB)'], peaks)}"


def main() -> int:
    """Measure, print and write."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="an option of the group model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--songs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each song")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--out", default="", help="folder of the results")
    given = parser.parse_args()
    device = machine.device_of(given.device)
    about = machine.machine(device) | {"commit": machine.commit(), "command": machine.command(MODULE)}
    about |= {"songs": f"{given.songs} of {given.seconds:g} s at 44.1 kHz: wav, flac, mp3, ogg"}
    figures = measure(given, device)
    name = f"preprocess_{given.model}_{'gpu' if device.type == 'cuda' else 'cpu'}"
    machine.write(name, given.out, about, figures, page(given.model, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
