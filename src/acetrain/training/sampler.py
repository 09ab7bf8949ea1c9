"""Makes the music of a run on its way, and leaves no trace in the run."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderOobleck
from jaxtyping import Float32
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.encoded import Known, encode, pipeline_of
from acetrain.acestep.load import load_component
from acetrain.acestep.model import Model
from acetrain.acestep.sampling import sample
from acetrain.acestep.tasks import Text2music
from acetrain.atomic import write_text
from acetrain.data import audio
from acetrain.errors import Failed
from acetrain.tracking.media import hand_over
from acetrain.tracking.spectrogram import draw
from acetrain.training.device import peak_memory
from acetrain.training.module import FlowMatching
from acetrain.training.precision import Precision
from acetrain.training.samples import Request

FOLDER = "samples"
BASE = "base"


class Stopped(Exception):
    """The run was asked to end while music was being made."""


@dataclass
class Sampler:
    """Makes the pieces of `requests`; to be used by the rank that writes alone."""

    folder: Path
    """The run's."""
    model: Model
    requests: Sequence[Request]
    every: int
    formats: Precision
    device: torch.device
    known: list[Known] = field(default_factory=list, init=False)
    """The encoded prompt of each request, on the CPU."""
    vae: AutoencoderOobleck = field(init=False)
    """On the CPU while the run trains."""

    def due(self, step: int, total: int) -> bool:
        """Whether music is made after `step` of `total` steps."""
        return step > 0 and (step % self.every == 0 or step == total)

    @rank_zero_only
    def tell_lost(self, step: int) -> None:
        """Print which music due before `step`, where the run stands, is missing: it cannot be made any more."""
        before = range(self.every, step, self.every)
        lost = [due for due in before if not all(self._there(request, _after(due)) for request in self.requests)]
        if lost:
            steps = ", ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
            print(f"samples: those of step {steps} are missing, and the run is at step {step} already", flush=True)

    def prepare(self, dit: MaskedDiT) -> None:
        """Encode the prompts, and make what is missing of the base's music; `dit` is the base alone, on the CPU.

        It is back on the CPU after it. Raises Failed where the device's memory does not hold it.
        """
        started, dtype = time.monotonic(), self.formats.encoding(self.device).dtype
        with self._apart():
            self.vae = load_component(self.model.checkpoint, AutoencoderOobleck, "vae", dtype, "cpu")
            prompts = [(request.prompt, request.seconds) for request in self.requests]
            frame_rate = self.vae.config["sampling_rate"] / math.prod(self.vae.config["downsampling_ratios"])
            self.known, cut = encode(self.model, prompts, frame_rate, dtype, self.device)
            print("".join(f"samples: cut off: {line}\n" for line in cut), end="")
            nn.Module.to(dit, self.device)
            made = self._make(dit, BASE, lambda: None)
            nn.Module.to(dit, "cpu")
        self._say(f"{len(self.requests)} prompts encoded, {made} made with the base", started)

    def make(self, module: FlowMatching, loggers: Sequence[Logger]) -> None:
        """The music of the module's present step, with the weights it has; what is there already is handed over again.

        Raises Failed where the device's memory does not hold it beside the training.
        """
        started, step = time.monotonic(), module.step

        def watch() -> None:
            if module.requested_stop or module.agreed_stop:
                raise Stopped

        try:
            with self._apart(), evaluated(module.dit):
                made = self._make(module.dit, _after(step), watch)
        except Stopped:
            self._say(f"those of step {step} are left out, as the run is to end", started)
            return
        for request in self.requests:
            self._hand_over(request, _after(step), step, loggers)
        if made:
            self._say(f"{made} made after step {step}", started)

    def introduce(self, loggers: Sequence[Logger]) -> None:
        """Hand the base's music to the trackers."""
        for request in self.requests:
            self._hand_over(request, BASE, 0, loggers)

    def _make(self, dit: MaskedDiT, name: str, watch: Callable[[], None]) -> int:
        """The pieces called `name` that are missing; how many were made."""
        missing = [pair for pair in zip(self.requests, self.known, strict=True) if not self._there(pair[0], name)]
        if not missing:
            return 0
        watch()
        try:
            nn.Module.to(self.vae, self.device)
            for request, known in missing:
                self._piece(dit, request, known, name, watch)
        except torch.OutOfMemoryError as error:
            raise Failed(
                f"samples.duration: {max(request.seconds for request in self.requests):g} s of music do not fit the "
                "memory beside the training; ask for less, or for samples=none: the run goes on from its checkpoint"
            ) from error
        finally:
            nn.Module.to(self.vae, "cpu")
        return len(missing)

    def _piece(self, dit: MaskedDiT, request: Request, known: Known, name: str, watch: Callable[[], None]) -> None:
        pipeline = pipeline_of(dit, self.vae, known.to(self.device))
        try:
            with self.formats.autocast(self.device):
                heard = sample(
                    pipeline, request.prompt, request.sampling, Text2music().arguments(), None, None, advance=watch
                )
        finally:
            known.to("cpu")
        if not math.isfinite(abs(heard).max()):
            print(f"samples: {request.name}, {name}: the model gave non-finite samples, nothing is written", flush=True)
            return
        self._write(request, name, heard, pipeline.sample_rate)

    def _write(self, request: Request, name: str, heard: Float32[np.ndarray, "2 sample"], rate: int) -> None:
        """Spectrogram first: where the audio is, both are."""
        folder = self.folder / FOLDER / request.name
        folder.mkdir(parents=True, exist_ok=True)
        if name == BASE:
            asked = {"prompt": asdict(request.prompt), "sampling": asdict(request.sampling), "model": self.model.name}
            write_text(folder / "settings.json", json.dumps(asked, indent=2, ensure_ascii=False) + "\n")
        base = folder / f"{BASE}.wav"
        panels = {BASE: audio.read(base, rate)} if name != BASE and base.is_file() else {}
        title = name if name == BASE else f"with the adapter, after step {int(name.rpartition('-')[2])}"
        draw(folder / f"{name}.png", panels | {title: heard}, rate, request.prompt.caption)
        audio.write(folder / f"{name}.wav", heard, rate)

    def _there(self, request: Request, name: str) -> bool:
        return (self.folder / FOLDER / request.name / f"{name}.wav").is_file()

    def _hand_over(self, request: Request, name: str, step: int, loggers: Sequence[Logger]) -> None:
        if self._there(request, name):
            file = self.folder / FOLDER / request.name / name
            key = f"{FOLDER}/{request.name}/{BASE if name == BASE else 'adapter'}"
            hand_over(loggers, step, key, file.with_suffix(".wav"), file.with_suffix(".png"))

    def _say(self, what: str, started: float) -> None:
        seconds, peak = time.monotonic() - started, peak_memory(self.device) / 2**30
        print(f"samples: {what}, {seconds:.1f} s, peak memory so far {peak:.2f} GiB", flush=True)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Within it, no random state of the process moves on; a GPU's memory is given back at its end."""
        on_gpu = self.device.type == "cuda"
        with torch.no_grad(), torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            yield
        if on_gpu:
            torch.cuda.empty_cache()


@contextmanager
def evaluated(dit: MaskedDiT) -> Iterator[None]:
    """Within it, the DiT runs as at inference, compiled blocks uncompiled; every module's mode comes back."""
    modes = {module: module.training for module in dit.modules()}
    with ExitStack() as stack:
        if dit.compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        dit.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _after(step: int) -> str:
    return f"step-{step:08d}"
