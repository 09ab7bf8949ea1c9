"""`acetrain generate`: music from a prompt, with the base or an adapter."""

import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain import __version__
from acetrain.acestep.model import Model
from acetrain.acestep.sampling import Sampling
from acetrain.acestep.tasks import Task
from acetrain.adapters.files import saved
from acetrain.atomic import write_text
from acetrain.data import prompt as prompts
from acetrain.data.formats import LONGEST, WRITTEN
from acetrain.data.prompt import Prompt
from acetrain.errors import Failed, Refused, require
from acetrain.training.precision import Precision
from acetrain.training.trainer import Accelerator
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    from jaxtyping import Float32
    from numpy import ndarray


@dataclass
class Generate:
    """Generate music from a prompt, with the base or an adapter."""

    adapter_path: str
    """Adapter in any layout: a file, an adapter's folder, or a run's; empty for the base alone."""
    scale: float
    """Strength of the adapter; 1 is what it was trained at, 0 the base."""
    adapter_paths: list[str]
    """Several adapters instead of one; their updates add up."""
    scales: list[float]
    """Strength of each of `adapter_paths`; empty for 1 each."""
    prompt: str
    """What the music is to be like; `@FILE` reads a file."""
    lyrics: str
    """Lyrics with tags like [verse]; empty for an instrumental."""
    duration: float
    """Length in seconds, above 0 and at most 600; a task that starts from a source has its length."""
    output: str
    """File to write, .wav, .flac or .ogg; all settings go into a .json beside it."""
    overwrite: bool
    """Replace an output that exists and was made with other settings."""
    seed: int
    """Seed of the noise; the same seed and settings give the same file."""
    reference: str
    """Audio file whose timbre the music takes; empty for none."""
    bpm: int | None
    """Beats per minute, 30 to 300; null leaves it to the model."""
    keyscale: str
    """Key such as F# minor; empty leaves it to the model."""
    timesignature: str
    """Beats of a bar: 2, 3, 4 or 6; empty leaves it to the model."""
    language: str
    """Language code of the lyrics."""
    steps: int | None
    """Sampling steps; null for the model's."""
    shift: float | None
    """Shift of the sampling schedule; null for the model's."""
    guidance: float | None
    """Strength of classifier-free guidance, at least 1 (none); null for the model's."""
    accelerator: Accelerator
    """Kind of device; auto takes a GPU where there is one."""
    model: Model
    task: Task
    precision: Precision

    def __post_init__(self) -> None:
        require(bool(self.prompt.strip()), "prompt", "a text", self.prompt)
        require(math.isfinite(self.scale), "scale", "a finite number", self.scale)
        require(all(map(math.isfinite, self.scales)), "scales", "finite numbers", self.scales)
        alone = not (self.adapter_path and self.adapter_paths)
        require(alone, "adapter_paths", "empty where adapter_path is given", self.adapter_paths)
        fitting = not self.scales or len(self.scales) == len(self.adapter_paths)
        require(fitting, "scales", f"empty, or {len(self.adapter_paths)} as adapter_paths has", self.scales)
        require(0 < self.duration <= LONGEST, "duration", f"above 0 and at most {LONGEST} s", self.duration)
        require(0 <= self.seed < 2**63, "seed", "from 0 to 2^63 - 1", self.seed)
        require(self.steps is None or self.steps >= 1, "steps", "at least 1, or null", self.steps)
        require(self.shift is None or 0 < self.shift < math.inf, "shift", "above 0, or null", self.shift)
        require(
            self.guidance is None or 1 <= self.guidance < math.inf, "guidance", "at least 1, or null", self.guidance
        )
        self.precision.check_encoding("generate")
        require(Path(self.output).suffix.lower() in WRITTEN, "output", f"a {', '.join(WRITTEN)} file", self.output)
        self._prompt()

    def check(self) -> None:
        """Whether model and adapter are there and the output may be written; reads no weight and creates nothing."""
        self.model.config("transformer")
        saved.check(self._adapters)
        for key, file in (("task.source", self.task.starts_from()), ("reference", self.reference)):
            if file and not Path(file).is_file():
                raise Refused(f"{key}: {file} does not exist")
        output = Path(self.output)
        writable_folder("output", output.parent)
        for file in (output, self._sidecar):
            if file.is_dir():
                raise Refused(f"output: {file} is a folder")
            if file.exists() and not self.overwrite and not self._made_so():
                raise Refused(f"output: {file} exists and was made otherwise; overwrite=true replaces it")

    def run(self) -> None:
        """Generate, and write the music and its settings."""
        from acetrain.data.audio import write

        audio, rate = self._sample()
        output = Path(self.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        self._sidecar.unlink(missing_ok=True)
        write(output, audio, rate)
        made = self._settings() | {"sha256": _sha256(output)}
        write_text(self._sidecar, json.dumps(made, indent=2, ensure_ascii=False) + "\n")
        print(f"music: {output} ({audio.shape[1] / rate:.2f} s)\nsettings: {self._sidecar}")

    def _sample(self) -> "tuple[Float32[ndarray, '2 sample'], int]":
        """The audio and its rate in Hz. Raises `Failed` where the model gives non-finite samples."""
        from acetrain.acestep.load import load_pipeline
        from acetrain.acestep.sampling import sample
        from acetrain.tracking.counted import counted
        from acetrain.training.device import device_of

        device = device_of(self.accelerator)
        pipeline = load_pipeline(self.model, self.precision.encoding(device).dtype, device)
        if self._adapters:
            saved.load(pipeline.transformer, self._adapters)
        sampling, rate = self._sampling(), pipeline.sample_rate
        source = self._heard("task.source", self.task.starts_from(), rate)
        reference = self._heard("reference", self.reference, rate)
        if warning := self.task.warning(self.model.name):
            print(f"warning: {warning}", file=sys.stderr)
        with counted("generating", sampling.steps) as advance:
            audio = sample(pipeline, self._prompt(), sampling, self.task.arguments(), source, reference, advance)
        if not math.isfinite(abs(audio).max()):
            raise Failed("the model gave non-finite samples: nothing was written; try precision=fp32, or less scale")
        return audio, pipeline.sample_rate

    def _heard(self, key: str, file: str, rate: int) -> "Float32[ndarray, '2 sample'] | None":
        """A given audio file at the model's rate."""
        from acetrain.data.audio import inspect, read

        if not file:
            return None
        try:
            inspect(Path(file), shortest=0.1)
            return read(Path(file), rate)
        except Refused as refusal:
            raise Refused(f"{key}: {file} {refusal}") from refusal

    @property
    def _adapters(self) -> list[tuple[Path, float]]:
        """Each adapter with its scale."""
        if self.adapter_path:
            return [(Path(self.adapter_path), self.scale)]
        scales = self.scales or [1.0] * len(self.adapter_paths)
        return [(Path(path), scale) for path, scale in zip(self.adapter_paths, scales, strict=True)]

    def _prompt(self) -> Prompt:
        given = {key: getattr(self, key) for key in prompts.FIELDS if key != "caption"} | {"caption": self.prompt}
        made, faults = prompts.build(given)
        if made is None:
            raise Refused(faults[0])
        return made

    def _sampling(self) -> Sampling:
        own = self.model.defaults()
        return Sampling(
            duration=None if self.task.starts_from() else self.duration,
            seed=self.seed,
            steps=own.steps if self.steps is None else self.steps,
            shift=own.shift if self.shift is None else self.shift,
            guidance=own.guidance if self.guidance is None else self.guidance,
        )

    @property
    def _sidecar(self) -> Path:
        return Path(self.output).with_suffix(".json")

    def _settings(self) -> dict[str, Any]:
        """All that the audio follows from."""
        adapters = []
        for path, scale in self._adapters:
            hashes = {part: _sha256(file) for part, file in saved.locate(path).parts.items()}
            adapters.append({"path": str(path), "scale": scale, "sha256": hashes})
        heard = {"source": self.task.starts_from(), "reference": self.reference}
        return {
            "model": self.model.name,
            "adapters": adapters,
            "task": self.task.arguments(),
            **{key: {"path": file, "sha256": _sha256(Path(file))} for key, file in heard.items() if file},
            "prompt": asdict(self._prompt()),
            "sampling": asdict(self._sampling()),
            "precision": self.precision.base.name,
            "accelerator": self.accelerator.name,
            "versions": {"acetrain": __version__} | {name: version(name) for name in ("diffusers", "torch")},
        }

    def _made_so(self) -> bool:
        """Whether output and sidecar are what these settings gave before: they come out the same again."""
        try:
            found = json.loads(self._sidecar.read_text(encoding="utf-8"))
            return found == self._settings() | {"sha256": _sha256(Path(self.output))}
        except (OSError, ValueError):
            return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
