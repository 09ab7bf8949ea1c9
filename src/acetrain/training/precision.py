"""In which number formats a run stores the frozen base and computes."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from acetrain.errors import Refused

if TYPE_CHECKING:
    import torch
    from lightning.pytorch.plugins.precision import Precision as Plugin
    from torch import nn


class Format(Enum):
    """A floating-point format; auto stands for the one that suits the device."""

    fp32 = "float32"
    bf16 = "bfloat16"
    fp16 = "float16"
    auto = "auto"

    @property
    def dtype(self) -> "torch.dtype":
        """torch's own name of the format."""
        import torch

        return getattr(torch, self.value)


class Quantised(Enum):
    """How the linear layers of the frozen base's blocks are stored."""

    none = "none"
    int8 = "int8"
    nf4 = "nf4"


@dataclass
class Precision:
    """Formats of base and computation; adapter weights, optimizer states, t and the loss are fp32 always.

    With fp16 in either, losses are scaled up before the backward pass so that small gradients do not vanish
    (Micikevicius et al. 2018, torch's `GradScaler`): a step whose gradients overflow is skipped and halves the scale,
    2000 steps without one double it.
    """

    base: Format
    """Format of the frozen base's weights; auto is bf16 on a CUDA GPU that has it, else fp16 there, fp32 elsewhere, or
    what a CUDA GPU is to compute in."""
    compute: Format
    """Format of matrix products (autocast when it is not fp32): the base's own where that has 16 bits; auto is this, or
    what suits the device. Not fp16 on an Apple GPU, whose gradients it makes NaN."""
    quantised: Quantised
    """Storage of the linear layers in the base's blocks, by bitsandbytes, on a CUDA GPU or a CPU: none leaves them in
    `base`; int8 is 8 bits with a scale per row (the weights' half of LLM.int8(), Dettmers et al. 2022); nf4 is 4.5 bits
    in blocks of 64 (QLoRA, Dettmers et al. 2023). They are made dense where they are multiplied, in `compute`; what is
    trained on them is an adapter like any other. For training alone."""

    def check_encoding(self, job: str) -> None:
        """Raise Refused for formats that only training can use: conditions overflow fp16, and nothing is quantised."""
        if self.quantised is not Quantised.none:
            raise Refused(f"precision.quantised: must be none for {job}, got {self.quantised.name}; train alone can")
        if self.base is Format.fp16:
            raise Refused(f"precision.base: must be fp32, bf16 or auto for {job}, as prompts overflow fp16, got fp16")

    def check_adapter(self, works_on_base: str) -> None:
        """Raise Refused where what trains works on the base's weights themselves and these are quantised."""
        if works_on_base and self.quantised is not Quantised.none:
            raise Refused(
                f"precision.quantised: must be none for {works_on_base}, which works on the base's own weights, "
                f"got {self.quantised.name}"
            )

    def encoding(self, device: "torch.device") -> Format:
        """The format songs and prompts are encoded in; auto is never fp16."""
        settled = _suited(device) if self.base is Format.auto else self.base
        return Format.fp32 if settled is Format.fp16 else settled

    def on(self, device: "torch.device") -> "Precision":
        """These formats with auto settled. Raises Refused for what the device cannot do."""
        base, compute = self._settled(_suited(device))
        if compute is not base is not Format.fp32:
            rule = f"{base.name}, the format of the base's weights, unless precision.base=fp32"
            raise Refused(f"precision.compute: must be {rule}, got {compute.name}")
        if device.type == "mps" and Format.fp16 in (base, compute):
            raise Refused("precision: must be fp32 or bf16 on an Apple GPU, where fp16 gives NaN gradients, got fp16")
        if self.quantised is not Quantised.none:
            from acetrain.acestep.quantised import check_device

            check_device(self.quantised.name, device)
        return replace(self, base=base, compute=compute)

    def _settled(self, own: Format) -> tuple[Format, Format]:
        """Base and compute on a device that `own` suits: what is given decides what is auto, as far as it has to."""
        base, compute = self.base, self.compute
        if base is Format.auto:
            base = own if own is Format.fp32 or compute is Format.auto else compute
        if compute is Format.auto:
            compute = own if base is Format.fp32 else base
        return base, compute

    @property
    def name(self) -> str:
        """The formats in words."""
        stored = self.base.name if self.quantised is Quantised.none else f"{self.quantised.name} and {self.base.name}"
        return f"{stored}, computed in {self.compute.name}"

    def store(self, dit: "nn.Module", by: "torch.device | str" = "cpu") -> None:
        """Quantise the blocks of a dense DiT in place, where that is asked for; the device `by` does the work."""
        if self.quantised is not Quantised.none:
            from acetrain.acestep.quantised import quantise

            quantise(dit, self.quantised.name, self.compute.dtype, by)

    def autocast(self, device: "torch.device") -> AbstractContextManager[object]:
        """Within it, matrix products are in `compute`."""
        import torch

        mixed = self.compute is not Format.fp32
        return torch.autocast(device.type, self.compute.dtype if mixed else None, enabled=mixed, cache_enabled=False)

    def plugin(self, device: "torch.device") -> "Plugin":
        """Lightning's part in computing so. It scales no loss: the step does, around its sum over ranks."""
        from lightning.pytorch.plugins.precision import MixedPrecision
        from lightning.pytorch.plugins.precision import Precision as Plain

        if self.compute is Format.fp32:
            return Plain()
        mixed = MixedPrecision("16-mixed" if self.compute is Format.fp16 else "bf16-mixed", device.type)
        mixed.scaler = None
        return mixed

    def scaler(self, device: "torch.device") -> "torch.amp.GradScaler":
        """What scales losses; without fp16 it leaves them as they are."""
        import torch

        return torch.amp.GradScaler(device.type, enabled=Format.fp16 in (self.base, self.compute))


def _suited(device: "torch.device") -> Format:
    """The format that suits a device: bf16 where it computes in it, fp16 where it computes in that alone."""
    import torch

    if device.type != "cuda":
        return Format.fp32
    return Format.bf16 if torch.cuda.is_bf16_supported(including_emulation=False) else Format.fp16
