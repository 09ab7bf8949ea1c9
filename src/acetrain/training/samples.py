"""Which music a run makes on its way, to be listened to."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.acestep.model import Model
from acetrain.acestep.sampling import Sampling
from acetrain.data import prompt as prompts
from acetrain.data.formats import LONGEST
from acetrain.data.prompt import Prompt
from acetrain.errors import Refused, nearest, require
from acetrain.training.precision import Precision

if TYPE_CHECKING:
    import torch

    from acetrain.training.sampler import Sampler

OWN = ("duration", "seed")
"""What a prompt may say beside the fields of a prompt."""
MOST_SEEDS = 2**63


@dataclass(frozen=True)
class Request:
    """A piece of music to make, with the base and again and again with what trains."""

    prompt: Prompt
    sampling: Sampling

    @property
    def seconds(self) -> float:
        """Its length."""
        assert self.sampling.duration is not None
        return self.sampling.duration

    @property
    def name(self) -> str:
        """A name for a folder: the caption's first words, and eight hex digits of all that the music is asked to be."""
        words = "-".join(re.findall(r"\w+", self.prompt.caption.lower())[:5])[:40]
        asked = json.dumps([asdict(self.prompt), asdict(self.sampling)], sort_keys=True)
        return f"{words}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}".removeprefix("-")


@dataclass
class SamplesOption:
    """Music made while training."""

    def check(self, sharded: bool) -> None:
        """Raise Refused where music cannot be made beside this training; `sharded` is a base that ranks share out."""

    def check_model(self, model: Model) -> None:
        """Raise Refused where the checkpoint lacks what music is made with; reads no weight."""

    def sampler(self, folder: Path, model: Model, formats: Precision, device: "torch.device") -> "Sampler | None":
        """What makes the music of the run in `folder`; None where there is none to make."""
        return None


@dataclass
class NoSamples(SamplesOption):
    """No music while training."""


@dataclass
class Samples(SamplesOption):
    """Music from prompts while training, in `samples/` of the run's folder and in the run's trackers.

    Each prompt is made with the base once, before the first step, then every `every` steps and after the last one with
    the adapter from the same noise: with the averaged weights where `ema` keeps some, else with those that `adapter/`
    would hold. A spectrogram shows both. Steps, shift and guidance are the model's, as in `acetrain generate`. The run
    ends in the same bits as without.
    """

    every: int
    """Steps between one time and the next, at least 1."""
    duration: float
    """Seconds of music for prompts that do not say theirs, above 0 and at most 600."""
    seed: int
    """Seed of the noise for prompts that do not say theirs, at least 0."""
    prompts: list[dict[str, Any]]
    """What to make: each a mapping with a `caption`, and as wanted `lyrics`, `bpm`, `keyscale`, `timesignature`,
    `language`, `duration` and `seed`, as in [{caption: a slow waltz, duration: 20}]. At least one."""

    def __post_init__(self) -> None:
        require(self.every >= 1, "samples.every", "at least 1 step", self.every)
        _check_own("samples", {"duration": self.duration, "seed": self.seed})
        example = "at least one prompt, such as [{caption: a slow waltz}]"
        require(bool(self.prompts), "samples.prompts", example, self.prompts)
        for index, given in enumerate(self.prompts):
            _read(f"samples.prompts[{index}]", given)

    def check(self, sharded: bool) -> None:
        if sharded:
            raise Refused("samples: must be none where trainer.shard is true, as one rank alone cannot run the model")

    def check_model(self, model: Model) -> None:
        from acetrain.acestep.load import check_encoders

        check_encoders(model)

    def sampler(self, folder: Path, model: Model, formats: Precision, device: "torch.device") -> "Sampler":
        from acetrain.training.sampler import Sampler

        return Sampler(folder, model, self.requests(model), self.every, formats, device)

    def requests(self, model: Model) -> list[Request]:
        """What is made, with the model's own steps, shift and guidance."""
        own = model.defaults()
        return [
            Request(
                _read(f"samples.prompts[{index}]", given),
                Sampling(
                    duration=float(given.get("duration", self.duration)),
                    seed=given.get("seed", self.seed),
                    steps=own.steps,
                    shift=own.shift,
                    guidance=own.guidance,
                ),
            )
            for index, given in enumerate(self.prompts)
        ]


def _read(key: str, given: Mapping[str, Any]) -> Prompt:
    """The prompt in a mapping. Raises Refused for unknown fields and values that break their rule."""
    known = (*prompts.FIELDS, *OWN)
    for name in given:
        if name not in known:
            raise Refused(f"{key}.{name}: there is no such field of a prompt; {nearest(name, known)}")
    _check_own(key, given)
    made, faults = prompts.build(given)
    if made is None:
        raise Refused(f"{key}.{faults[0]}" if faults[0] != prompts.NO_CAPTION else f"{key}.caption: must be given")
    return made


def _check_own(key: str, given: Mapping[str, Any]) -> None:
    seconds, seed = given.get("duration", 1), given.get("seed", 0)
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    require(number and 0 < seconds <= LONGEST, f"{key}.duration", f"above 0 and at most {LONGEST} s", seconds)
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    require(whole and 0 <= seed < MOST_SEEDS, f"{key}.seed", "a whole number from 0 to 2^63 - 1", seed)
