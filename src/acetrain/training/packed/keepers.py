"""What happens around the steps of trainings that go side by side: for each what would happen if it went alone."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from acetrain.errors import Failed
from acetrain.training.callbacks import Keeper
from acetrain.training.module import FlowMatching
from acetrain.training.packed.module import Pack


def own(trainer: Trainer, loggers: Sequence[Logger]) -> Trainer:
    """The trainer as one lane has it: with loggers of its own, and when it is told to stop, only the lane ends."""
    seen = copy.copy(trainer)
    seen.loggers, seen.should_stop = list(loggers), False
    return seen


class Keepers(Callback):
    """The keeper of each lane."""

    def __init__(self, pack: Pack, keepers: Sequence[Keeper], loggers: Sequence[Sequence[Logger]]) -> None:
        self.pack, self.keepers, self.loggers = pack, keepers, loggers

    def setup(self, trainer: Trainer, pl_module: Pack, stage: str) -> None:  # pyright: ignore
        self.trainers = [own(trainer, loggers) for loggers in self.loggers]
        self._each(range(len(self.keepers)), lambda keeper, seen, lane: keeper.setup(seen, lane, stage))

    def on_train_start(self, trainer: Trainer, pl_module: Pack) -> None:  # pyright: ignore
        able = [number for number in range(len(self.keepers)) if number not in self.pack.ended]
        self._each(able, lambda keeper, seen, lane: keeper.on_train_start(seen, lane))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Pack, *rest: Any) -> None:  # pyright: ignore
        stepped = [number for number in self.pack.stepped if number not in self.pack.ended]
        self._each(stepped, lambda keeper, seen, lane: keeper.on_train_batch_end(seen, lane, *rest))
        for number in stepped:
            if (
                self.trainers[number].should_stop
                or self.pack.lanes[number].step == self.pack.lanes[number].horizon.total
            ):
                self.pack.ended.setdefault(number, None)
        trainer.should_stop = len(self.pack.ended) == len(self.pack.lanes)

    def on_train_end(self, trainer: Trainer, pl_module: Pack) -> None:  # pyright: ignore
        for number in self._backwards():
            self.keepers[number].on_train_end(self.trainers[number], self.pack.lanes[number])  # pyright: ignore

    def on_exception(self, trainer: Trainer, pl_module: Pack, exception: BaseException) -> None:  # pyright: ignore
        for number in self._backwards():
            self.keepers[number].on_exception(self.trainers[number], self.pack.lanes[number], exception)  # pyright: ignore

    def _backwards(self) -> Sequence[int]:
        """Keepers in the order in which they undo what they did: each has the one before it to go back to."""
        return range(len(self.keepers))[::-1]

    def _each(self, numbers: Sequence[int], action: Callable[[Any, Any, FlowMatching], None]) -> None:
        """Do something for lanes; one that fails at it ends alone."""
        for number in numbers:
            try:
                action(self.keepers[number], self.trainers[number], self.pack.lanes[number])
            except Failed as failure:
                self.pack.ended[number] = failure
