"""Adapters that PEFT attaches and whose folder it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.adapters.adapter import Adapter, Shapes
from acetrain.adapters.files import peft
from acetrain.adapters.files.fit import check_fit, located

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@dataclass
class ThroughPeft(Adapter):
    """An adapter of a type that PEFT has."""

    peft_type: ClassVar[str]
    """PEFT's name of the type."""

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

    def check_start(self, path: Path, layers: Shapes) -> None:
        check_fit(path, self.peft_type, list(layers), self.settings(list(layers)))

    def inject(self, dit: "nn.Module", names: Sequence[str], seed: int) -> None:
        from acetrain.adapters.injection import inject

        inject(dit, self.peft(names), names, seed)

    def fill(self, dit: "nn.Module", path: Path) -> None:
        from acetrain.adapters.injection import NAME

        peft.fill(dit, located(path), NAME)

    def save(self, dit: "nn.Module", folder: Path, base: str, metadata: Mapping[str, str]) -> None:
        peft.save(dit, folder, base, metadata)
