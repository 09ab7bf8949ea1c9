"""In which number formats a run stores the frozen base and computes."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


class Format(Enum):
    """A floating-point format."""

    fp32 = "float32"
    bf16 = "bfloat16"

    @property
    def dtype(self) -> "torch.dtype":
        """torch's own name of the format."""
        import torch

        return getattr(torch, self.value)


@dataclass
class Precision:
    """Formats of base and computation; adapter weights, optimizer states, t and the loss are fp32 always."""

    base: Format
    """Format of the frozen base's weights."""
    compute: Format
    """Format of matrix products (autocast when it is not fp32)."""

    def lightning(self) -> Literal["32-true", "bf16-mixed"]:
        """Lightning's name for computing so."""
        return "32-true" if self.compute is Format.fp32 else "bf16-mixed"
