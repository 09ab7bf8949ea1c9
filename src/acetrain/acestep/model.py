"""Which ACE-Step checkpoint a job works on, and what that variant is used with."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from acetrain.acestep.layouts import MAIN, TEXT_ENCODER, Checkpoint, Diffusers, download_of, open_checkpoint
from acetrain.acestep.official import variant_of
from acetrain.errors import Refused, nearest, require

EMBEDDED = Path(__file__).parent / "tiny" / "weights"
SILENCE = "silence"
"""The timbre reference used here: the learned latent of silence, as upstream takes without reference audio."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Defaults(NamedTuple):
    """What a variant is sampled with (upstream's model table and inference guide)."""

    steps: int
    shift: float
    guidance: float


TURBO, GUIDED = Defaults(8, 3.0, 1.0), Defaults(50, 3.0, 7.0)
VARIANTS = {
    "turbo": TURBO,
    "base": GUIDED,
    "sft": GUIDED,
    "turbo_shift1": TURBO._replace(shift=1.0),
    "turbo_shift3": TURBO,
    "turbo_continuous": TURBO,
    "xl_turbo": TURBO,
    "xl_base": GUIDED,
    "xl_sft": GUIDED,
}
"""Released variants and what they are sampled with: turbo is distilled to few steps without guidance."""


@dataclass
class Model:
    """A checkpoint, and the sampling settings its variant was made for."""

    variant: str
    """Name of the variant; a cache belongs to one variant and says so."""
    path: str
    """Folder of the checkpoint."""
    steps: int | None
    """Sampling steps at inference; null for the variant's own."""
    shift: float | None
    """Shift s of the sampling schedule, s*t / (1 + (s-1)*t); 1 leaves it linear; null for the variant's own."""
    guidance: float | None
    """Strength of classifier-free guidance (APG); 1 turns it off; null for the variant's own."""

    def __post_init__(self) -> None:
        require(self.steps is None or self.steps >= 1, "model.steps", "at least 1, or null", self.steps)
        require(self.shift is None or self.shift > 0, "model.shift", "above 0, or null", self.shift)
        without = "at least 1 (no guidance), or null"
        require(self.guidance is None or self.guidance >= 1, "model.guidance", without, self.guidance)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Where the weights lie. Raises `Refused` where they are not there, saying where they were looked for."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The variant, asked of the checkpoint where it is not given."""
        return self.variant

    @property
    def pools_token(self) -> bool:
        """Whether the timbre encoder pools its learned token instead of the first frame."""
        return False

    @property
    def timbre(self) -> str:
        """The timbre reference conditions are encoded with, and how it is pooled."""
        return f"{SILENCE}, token" if self.pools_token else SILENCE

    def defaults(self) -> Defaults:
        """Steps, shift and guidance to sample with."""
        own = VARIANTS.get(self.name, GUIDED)
        return Defaults(
            own.steps if self.steps is None else self.steps,
            own.shift if self.shift is None else self.shift,
            own.guidance if self.guidance is None else self.guidance,
        )

    def arguments(self) -> str:
        """What chooses this checkpoint on a command line."""
        option = self.variant or "folder"
        return f"model={option}" + (f" model.path={shlex.quote(self.path)}" if self.path else "")

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of one component, such as `transformer` or `vae`; no weight is read."""
        return self.checkpoint.config(component)


@dataclass
class Tiny(Model):
    """The tiny base inside the package: every real class, pretrained on synthesised songs."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The package's own weights, or `path` where it is given."""
        if self.path and not Path(self.path).is_dir():
            raise Refused(f"model.path: {self.path} does not exist")
        return Diffusers(Path(self.path) if self.path else EMBEDDED)


@dataclass
class Released(Model):
    """A variant of ACE-Step 1.5 as released, or a checkpoint made from one, in the official or the diffusers layout."""

    path: str
    """Folder of the checkpoint, or its id on the Hugging Face hub; empty looks for `release` below `checkpoints`."""
    checkpoints: str
    """Folder that holds the official releases, with `vae` and `Qwen3-Embedding-0.6B` that they share."""
    release: str
    """Folder name of the variant's official release."""
    repository: str
    """Hub id of the variant's official release."""
    timbre_token: bool
    """Whether the timbre encoder pools its learned token, as the official XL code does, and not the first frame, as
    diffusers does for all variants. Part of what a cache was encoded with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = not self.variant or self.variant in VARIANTS
        rule = f"one of {', '.join(VARIANTS)}, or empty; {nearest(self.variant, VARIANTS)}"
        require(known, "model.variant", rule, self.variant)
        require(bool(self.path or self.release), "model.path", "a checkpoint's folder or hub id", self.path)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        folder = self._folder()
        found = open_checkpoint(folder, [Path(self.checkpoints)])
        said = variant_of(found.config("transformer"))
        if self.variant and said and said != _plain(self.variant):
            raise Refused(f"model: {folder} is a {said} by its configuration, asked for is {self.variant}")
        return found

    @property
    def name(self) -> str:
        said = self.variant or variant_of(self.config("transformer"))
        if not said:
            raise Refused(f"model.variant: must be given, the configuration in {self.checkpoint.folder} tells none")
        return said

    @property
    def pools_token(self) -> bool:
        return self.timbre_token

    def _folder(self) -> Path:
        if not self.path:
            folder = Path(self.checkpoints) / self.release
            if not folder.is_dir():
                raise Refused(self._how_to_get(folder))
            return folder
        if Path(self.path).is_dir():
            return Path(self.path)
        if _HUB_ID.fullmatch(self.path):
            from acetrain.acestep.hub import fetched

            return fetched(self.path)
        raise Refused(f"model.path: {self.path} does not exist")

    def _how_to_get(self, folder: Path) -> str:
        """The command that downloads what is missing: the variant, and the parts that variants share."""
        parent = folder.parent
        shared = [part for part in ("vae", TEXT_ENCODER) if not (parent / part).is_dir()]
        in_main = [self.release, *shared] if self.repository == MAIN else shared
        commands = [] if self.repository == MAIN else [f"hf download {self.repository} --local-dir {folder}"]
        commands += [f"{download_of(in_main)} --local-dir {parent}"] if in_main else []
        return (
            f"model: {self.release} is not in {parent.absolute()} (model.checkpoints, or ACESTEP_CHECKPOINTS_DIR)\n"
            f"get it: {' && '.join(commands)}"
        )


def _plain(variant: str) -> str:
    """The variant as far as a configuration tells it: `turbo_shift3` is a turbo."""
    return re.sub(r"_(shift\d|continuous)$", "", variant)
