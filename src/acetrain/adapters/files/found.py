"""Where a saved adapter lies, and its tensors by the names they have here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acetrain.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's weights and, where it has one of its own, the file that describes them."""

    weights: Path
    kind: str
    """The adapter's type: PEFT's name of it, `LyCORIS`, `decomposed LyCORIS`, `delta`, or `full`."""
    config: Path | None = None
    layout: str = "PEFT"
    """Whose way of writing it is: PEFT, ComfyUI, diffusers, kohya, LyCORIS, or acetrain for whole weights."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name in the file -> the name as it is written here; empty for what the settings have taken in."""
    settings: Mapping[str, Any] | None = None
    """PEFT's configuration as it is to be read, where the file beside the weights is not."""
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Tensors of one number that the file lacks, by the name they have here."""

    @property
    def parts(self) -> dict[str, Path]:
        """The files by what they are."""
        return {"weights": self.weights} | ({} if self.config is None else {"config": self.config})

    def read(self) -> "dict[str, Tensor]":
        """The tensors by the names they have here. Raises Refused where the file is not whole."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self.weights)
        except (OSError, SafetensorError) as error:
            raise Refused(f"adapter_path: {self.weights} cannot be read as safetensors ({error})") from error
        named = {self.names.get(name, name): tensor for name, tensor in tensors.items()}
        own = {name: tensor for name, tensor in named.items() if name}
        return own | {name: torch.tensor(value) for name, value in self.alphas.items()}
