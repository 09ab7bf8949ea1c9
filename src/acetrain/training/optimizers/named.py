"""Any optimizer of pytorch-optimizer, by its name."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from acetrain.adapters.adapter import Adapter
from acetrain.errors import Failed, Refused, nearest, require
from acetrain.training.optimizer import Group, OptimizerOption
from acetrain.training.optimizers import catalogue

if TYPE_CHECKING:
    from torch.optim import Optimizer

OURS = ("lr", "weight_decay")
"""Arguments that have keys of their own."""


@dataclass
class Named(OptimizerOption):
    """An optimizer of pytorch-optimizer by the name of its class, with arguments of its own."""

    name: str
    """The class, such as StableAdamW, Adan, ADOPT or SOAP."""
    arguments: dict[str, Any]
    """What its constructor is called with beside lr and weight_decay, as in {betas: [0.9, 0.95]}."""

    package: ClassVar[str] = catalogue.PACKAGE

    def check(self, modules: Sequence[str], adapter: Adapter) -> None:
        super().check(modules, adapter)
        if self.name not in catalogue.files():
            raise Refused(
                f"optimizer.name: {self.name!r} is no optimizer of pytorch-optimizer; "
                f"{nearest(self.name, catalogue.fit())}"
            )
        described = catalogue.described(self.name)
        if described.unfit:
            raise Refused(f"optimizer.name: {self.name} {described.unfit}; choose another")
        for argument, value in self.arguments.items():
            key = f"optimizer.arguments.{argument}"
            require(argument not in OURS, key, f"given as optimizer.{argument}", value)
            if argument not in described.arguments:
                valid = [name for name in described.arguments if name not in OURS]
                raise Refused(f"{key}: {self.name} has no such argument; {nearest(argument, valid)}")
            require(described.takes(argument, value), key, described.arguments[argument], value)
        missing = [name for name in described.required if name not in self.arguments]
        require(not missing, "optimizer.arguments", f"given with {', '.join(missing)} for {self.name}", self.arguments)
        if "weight_decay" not in described.arguments:
            no_decay = f"0, as {self.name} has none"
            require(self.weight_decay == 0, "optimizer.weight_decay", no_decay, self.weight_decay)

    @property
    def kind(self) -> str:
        return self.name

    @property
    def averages(self) -> bool:
        return catalogue.described(self.name).averages

    def over(self, groups: list[Group]) -> "Optimizer":
        import pytorch_optimizer

        arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in self.arguments.items()}
        try:
            return getattr(pytorch_optimizer, self.name)(groups, lr=self.lr, **arguments)
        except ValueError as error:
            raise Failed(f"optimizer.arguments: {self.name} refuses them: {error}") from error

    def evaluating(self, optimizer: "Optimizer") -> AbstractContextManager[None]:
        from acetrain.training.optimizers.averaging import averaged, averages

        return averaged(optimizer) if averages(optimizer) else super().evaluating(optimizer)
