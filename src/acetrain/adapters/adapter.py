"""What a run trains: small modules attached to linear layers of a frozen DiT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

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

    def check(self, layers: Shapes) -> None:
        """Raise Refused where the adapter does not go with the shapes of the selected `layers`; loads nothing."""

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
        from acetrain.adapters.injection import inject

        inject(dit, self.peft(names), names, seed)
