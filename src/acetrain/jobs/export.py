"""`acetrain export`: an adapter for another program, at the strength it was trained at."""

import math
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from acetrain.acestep.layouts import Official, open_checkpoint
from acetrain.acestep.model import Model
from acetrain.acestep.relayout import planned
from acetrain.adapters.files import peft, saved
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.formats import Target, holding
from acetrain.adapters.kinds import UNSCALED
from acetrain.errors import Refused, require
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    import torch

    from acetrain.adapters.exporting import Exported


class Dtype(Enum):
    """A format of numbers; keep is the one they are stored in."""

    keep = "keep"
    fp32 = "float32"
    bf16 = "bfloat16"
    fp16 = "float16"

    @property
    def torch(self) -> "torch.dtype | None":
        """torch's own name of the format; None for the one they are in."""
        import torch

        return None if self is Dtype.keep else getattr(torch, self.value)


class Layout(Enum):
    """How the files of a checkpoint are laid out."""

    keep = "keep"
    official = "official"
    diffusers = "diffusers"


@dataclass
class Export:
    """Write an adapter in the format of another program, or into the weights of its base."""

    adapter_path: str
    """Adapter in any layout: a file, an adapter's folder, or a run's."""
    format: Target
    """peft (official app, Side-Step), comfyui, diffusers, lycoris, kohya; delta, the whole difference of each weight;
    merged, the base with the adapter in its weights."""
    output: str
    """What to write: a folder for peft and merged, a .safetensors file for the others."""
    overwrite: bool
    """Whether to replace an output that is there; a checkpoint's folder goes as a whole."""
    layout: Layout
    """Layout of what merged writes: official, diffusers, or keep for that of `model`."""
    dtype: Dtype
    """Format of the tensors: fp32, bf16, fp16, or keep for the one they have; alphas are fp32 always."""
    rank: int | None
    """Rank of the LoRA that stands for an adapter whose type the format does not hold, at least 1; null refuses it."""
    exact: bool
    """Whether to refuse an adapter whose type the format does not hold, rank or no rank."""
    scale: float
    """For merged, the strength of the adapter; 1 is what it was trained at."""
    adapter_alpha: float | None
    """Alpha of every module of an adapter that says none; null for what it says."""
    model: Model
    """The base: written by merged, and read for types of adapters whose change follows from its weights."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        require(bool(self.adapter_path), "adapter_path", "an adapter's file or folder", self.adapter_path)
        file = self.output.endswith(".safetensors")
        rule = "a folder" if self.format.is_folder else "a .safetensors file"
        require(
            bool(self.output) and file != self.format.is_folder, "output", f"{rule} for {self.format.name}", self.output
        )
        require(self.rank is None or self.rank >= 1, "rank", "at least 1, or null", self.rank)
        require(math.isfinite(self.scale), "scale", "a finite number", self.scale)
        keeps = self.layout is Layout.keep or self.format is Target.merged
        require(keeps, "layout", "keep but for format=merged", self.layout.name)
        alone = self.scale == 1 or self.format is Target.merged
        require(alone, "scale", "1 but for format=merged; other programs have a strength of their own", self.scale)
        known = self.adapter_alpha is None or 0 < self.adapter_alpha < math.inf
        require(known, "adapter_alpha", "above 0, or null", self.adapter_alpha)

    def check(self) -> None:
        """Whether the adapter is there and the format holds it, and whether the output may be written; reads headers
        alone and creates nothing."""
        output = Path(self.output)
        if self.reads_base:
            self.model.config("transformer")
        if self.files.kind in UNSCALED:
            require(
                self.scale == 1,
                "scale",
                f"1 for a {self.files.kind} adapter, whose rotations have no strength",
                self.scale,
            )
        if self.format is Target.merged and self.adapter_alpha is not None:
            raise Refused("adapter_alpha: must be null for merged; format=peft writes the alpha down first")
        if not self.holds:
            self._check_conversion()
        writable_folder("output", output.parent)
        if output.is_dir() and any(output.iterdir()) and not self.format.is_folder:
            raise Refused(f"output: {output} is a folder")
        if not self.overwrite and (output.is_file() or (output.is_dir() and any(output.iterdir()))):
            raise Refused(f"output: {output} is there already; overwrite=true replaces it")
        if output.resolve() in (self.files.weights.parent.resolve(), self.files.weights.resolve()):
            raise Refused(f"output: must be another place than the adapter's, got {output}")
        if self.format is Target.merged:
            self._check_merged(output)

    def _check_merged(self, output: Path) -> None:
        if output.resolve() == self.model.checkpoint.folder.resolve():
            raise Refused(f"output: must be another folder than the base's, got {output}")
        if output.is_file():
            raise Refused(f"output: {output} is a file; a folder is needed")
        for path in (self.model.checkpoint.folder, self.files.weights):
            if path.resolve().is_relative_to(output.resolve()):
                raise Refused(f"output: must not be replaced by what is made of something in it, {path}; got {output}")
        if output.is_dir() and any(output.iterdir()):
            self._check_replaced(output)
        if self.changes_layout:
            planned(self.model.checkpoint)

    def _check_conversion(self) -> None:
        kind = "DoRA" if peft.is_dora(self.files) else self.files.kind
        formats = ", ".join(holding(self.files.kind, peft.is_dora(self.files)))
        held = f"{self.format.name} holds no {kind} adapter as it is; {formats} do"
        if self.exact:
            raise Refused(f"exact: must be false to convert: {held}")
        require(self.rank is not None, "rank", f"given, of the LoRA that comes nearest: {held}", self.rank)

    @cached_property
    def files(self) -> AdapterFiles:
        """The adapter's files."""
        return saved.locate(Path(self.adapter_path), self.adapter_alpha)

    @property
    def holds(self) -> bool:
        """Whether the format holds the adapter as it is."""
        return self.format.holds(self.files.kind, peft.is_dora(self.files))

    def _check_replaced(self, output: Path) -> None:
        try:
            open_checkpoint(output, [])
        except Refused as error:
            raise Refused(f"output: {output} holds no checkpoint, which alone is replaced as a whole") from error

    @property
    def changes_layout(self) -> bool:
        """Whether the base is written in the layout that it is not in."""
        layout = Layout.official if isinstance(self.model.checkpoint, Official) else Layout.diffusers
        return self.layout not in (Layout.keep, layout)

    @property
    def reads_base(self) -> bool:
        """Whether the base's weights are read."""
        converts = self.format is Target.delta or not self.holds
        return self.format is Target.merged or (converts and saved.needs_base(self.files))

    def run(self) -> None:
        """Write it, and tell what was lost."""
        from acetrain.adapters.exporting import export, export_merged

        output, dtype = Path(self.output), self.dtype.torch
        if self.format is Target.merged:
            done = export_merged(
                [(Path(self.adapter_path), self.scale)], output, dtype, self.model, self.changes_layout
            )
        else:
            base = self.model if self.reads_base else None
            done = export(self.files, self.format, output, dtype, self.rank, base)
        self._tell(done)

    def _tell(self, done: "Exported") -> None:
        what = "weights" if self.format is Target.merged else "modules"
        print(f"{self.format.name}: {self.output} ({done.modules} {what})")
        if not self.holds:
            kept = f"the LoRA of rank {self.rank} is {done.loss:.3%} of the change away from it (Frobenius norm)"
            print(f"converted from {self.files.kind}: {kept}")
        if done.left_out:
            first = ", ".join(list(done.left_out)[:3])
            norm = f"whose change has norm {math.hypot(*done.left_out.values()):.3g}"
            print(f"warning: {len(done.left_out)} trained tensors, {norm}, are not in it, as {first}", file=sys.stderr)
