"""What a run trains: small modules attached to linear layers of a frozen DiT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.adapters.files.fit import check_fit, digest, located

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn

Shapes = Mapping[str, tuple[int, int]]
"""Linear layers: diffusers name -> (outputs, inputs)."""


@dataclass
class Adapter:
    """An adapter type and its size."""

    peft_type: ClassVar[str]
    """PEFT's name of the type."""

    start_from: str = field(kw_only=True)
    """Adapter to go on from, a PEFT folder or its safetensors, of the same type, size and targets; empty to begin
    anew."""

    def check(self, layers: Shapes) -> None:
        """Raise Refused where the adapter, or the one to start from, does not go with the selected `layers`."""
        if self.start_from:
            check_fit(Path(self.start_from), self.peft_type, list(layers), self.settings(list(layers)))

    def content(self) -> dict[str, str]:
        """Fields that name a file -> the digest of what it holds."""
        return {"start_from": digest(Path(self.start_from))} if self.start_from else {}

    def settings(self, names: Sequence[str]) -> dict[str, Any]:
        """PEFT's settings of this adapter on the modules `names`, without the modules."""
        raise NotImplementedError

    def peft(self, names: Sequence[str]) -> "PeftConfig":
        """The PEFT configuration of this adapter on the modules `names`."""
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils.peft_types import PeftType

        kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.peft_type)]
        settings: dict[str, Any] = {"target_modules": list(names), **self.settings(names)}
        return kind(**settings)

    def attach(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        """Attach the adapter to exactly the modules `names`; only its weights, in fp32, require gradients."""
        from acetrain.adapters.files.peft import fill
        from acetrain.adapters.injection import NAME, inject

        inject(dit, self.peft(names), names, seed)
        if self.start_from:
            fill(dit, located(Path(self.start_from)), NAME)
