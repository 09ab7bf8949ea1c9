"""`acetrain combine`: several adapters as one, or a fine-tuned checkpoint as an adapter."""

import json
import math
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain.acestep.model import Model
from acetrain.adapters.files import saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.errors import Refused, require
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    from acetrain.adapters.combining import Change

VARIANTS = ("turbo", "base", "sft")
"""Variants of the model, as names of checkpoints have them in them."""


@dataclass
class Combine:
    """Add adapters up into one LoRA, or extract one from what a checkpoint has more than its base."""

    adapter_paths: list[str]
    """Adapters in any layout, of any types, trained on one base; empty with `checkpoint`."""
    weights: list[float]
    """What each adapter counts, 1 being its trained strength; empty for 1 each."""
    checkpoint: str
    """Folder of a checkpoint, in either layout, whose difference from `model` is extracted; empty for adapters."""
    output: str
    """Folder to write the LoRA to, as PEFT does; `acetrain export` writes it for others."""
    overwrite: bool
    """Whether to replace an output that is there."""
    rank: int | None
    """Largest rank of a module, at least 1; null for all ranks, which is exact."""
    energy: float | None
    """Share of the squared singular values that each module keeps, in (0, 1]; null for all."""
    model: Model
    """The base; read with `checkpoint`, and for types of adapters whose change follows from its weights."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        if bool(self.adapter_paths) == bool(self.checkpoint):
            got = "both" if self.checkpoint else "none"
            raise Refused(f"adapter_paths: exactly one must be given of adapter_paths and checkpoint; got {got}")
        fitting = not self.weights or len(self.weights) == len(self.adapter_paths)
        require(fitting, "weights", f"empty, or {len(self.adapter_paths)} as adapter_paths has", self.weights)
        require(all(map(math.isfinite, self.weights)), "weights", "finite numbers", self.weights)
        require(bool(self.output), "output", "a folder", self.output)
        require(self.rank is None or self.rank >= 1, "rank", "at least 1, or null", self.rank)
        require(self.energy is None or 0 < self.energy <= 1, "energy", "in (0, 1], or null", self.energy)
        if self.checkpoint and self.rank is None and self.energy is None:
            raise Refused("rank: one must be given of rank and energy with checkpoint, whose difference has every rank")

    def check(self) -> None:
        """Whether adapters or checkpoint are there and go together, and the output may be written; reads headers
        alone."""
        if self.checkpoint:
            self.model.config("transformer")
            self.tuned.config("transformer")
        elif any(self.based):
            self.model.config("transformer")
        bases = {base for base in map(saved.said_base, self.files) if base}
        require(len(set(map(_variant, bases))) < 2, "adapter_paths", "trained on one base", ", ".join(sorted(bases)))
        output = Path(self.output)
        writable_folder("output", output.parent)
        if output.is_file() or (output.is_dir() and any(output.iterdir()) and not self.overwrite):
            raise Refused(f"output: {output} is there already; overwrite=true replaces what a folder holds")
        if output.resolve() in {files.weights.parent.resolve() for files in self.files}:
            raise Refused(f"output: must be another place than the adapters', got {output}")

    @cached_property
    def files(self) -> list[AdapterFiles]:
        """The adapters' files."""
        return [saved.locate(Path(path)) for path in self.adapter_paths]

    @property
    def based(self) -> list[bool]:
        """Whether each adapter's type needs the base's weights."""
        return [saved.needs_base(files) for files in self.files]

    @cached_property
    def tuned(self) -> Model:
        """The checkpoint to extract from."""
        return replace(self.model, path=self.checkpoint)

    def run(self) -> None:
        """Add up or extract, write the LoRA, and tell what was cut."""
        import torch

        from acetrain.adapters.combining import combine
        from acetrain.adapters.files import low_rank
        from acetrain.tracking.counted import counted

        change = self._change()
        with counted("combining", len(change.names)) as advance:
            done = combine(change, self.rank, self.energy, advance)
        updates, base = done.updates, self._base()
        said = {"combined": json.dumps(self._made_of()), **({"base": base} if base else {})}
        low_rank.save(updates, {}, False, torch.float32, Path(self.output), base, said)
        ranks = [update.rank for update in updates.values()]
        print(f"adapter: {self.output} ({len(updates)} modules, ranks {min(ranks)} to {max(ranks)})")
        print(f"distance: {done.loss:.3%} of the whole change (Frobenius norm)")
        if change.left_out:
            first = ", ".join(list(change.left_out)[:3])
            print(f"warning: {len(change.left_out)} tensors that differ are not in it, as {first}", file=sys.stderr)

    def _change(self) -> "Change":
        from acetrain.adapters.combining import difference, weighted_sum
        from acetrain.adapters.updates import updates_of

        if self.checkpoint:
            return difference(self.model, self.tuned)
        pairs = zip(self.files, self.based, strict=True)
        read = [updates_of(files, self.model if based else None) for files, based in pairs]
        return weighted_sum(list(zip(read, self._weights(), strict=True)))

    def _weights(self) -> list[float]:
        return self.weights or [1.0] * len(self.adapter_paths)

    def _base(self) -> str:
        if self.checkpoint:
            return self.model.name
        return next((base for base in map(saved.said_base, self.files) if base), "")

    def _made_of(self) -> list[dict[str, object]]:
        if self.checkpoint:
            return [{"checkpoint": self.checkpoint}]
        return [{"path": path, "weight": one} for path, one in zip(self.adapter_paths, self._weights(), strict=True)]


def _variant(base: str) -> str:
    """The variant that the name of a base, or its path, tells; the name where it tells none."""
    name = base.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    kind = next((one for one in VARIANTS if one in name), "")
    return f"xl_{kind}" if kind and "xl" in name else kind or name
