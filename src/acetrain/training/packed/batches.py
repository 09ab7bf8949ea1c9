"""The songs of several trainings' steps, split into micro-batches together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from acetrain.data.batch import Batch
from acetrain.data.loader import Placed, Steps, Unreadable, one_by_one
from acetrain.data.split import groups
from acetrain.errors import Refused
from acetrain.training.draws import Draws


@dataclass(frozen=True)
class Together:
    """A micro-batch with rows of several lanes, all padded to the same lengths."""

    lanes: tuple[int, ...]
    """Numbers of the lanes that have rows in it, ascending."""
    batches: tuple[Batch, ...]
    """The rows of each of them."""

    @classmethod
    def of(cls, batches: dict[int, Batch]) -> "Together":
        """The batches of the lanes, padded to the longest of them."""
        frames = max(batch.latents.shape[1] for batch in batches.values())
        tokens = max(batch.condition.shape[1] for batch in batches.values())
        padded = [_padded(batch, frames, tokens) for _, batch in sorted(batches.items())]
        return cls(tuple(sorted(batches)), tuple(padded))

    def to(self, device: torch.device, non_blocking: bool = False) -> "Together":
        """The same with its tensors on `device`."""
        return replace(self, batches=tuple(batch.to(device, non_blocking) for batch in self.batches))

    def pin_memory(self) -> "Together":
        """The same in page-locked memory."""
        return replace(self, batches=tuple(batch.pin_memory() for batch in self.batches))

    def rows(self, lanes: int) -> tuple[int, ...]:
        """How many rows each of so many lanes has."""
        counts = dict(zip(self.lanes, (len(batch.frames) for batch in self.batches), strict=True))
        return tuple(counts.get(lane, 0) for lane in range(lanes))

    def without(self, lanes: Sequence[int]) -> "Together":
        """The rows of the other lanes."""
        kept = [place for place, lane in enumerate(self.lanes) if lane not in lanes]
        return Together(tuple(self.lanes[place] for place in kept), tuple(self.batches[place] for place in kept))

    def whole(self) -> Batch:
        """All rows as one batch, which has no weight of its own."""
        first, *_ = self.batches
        return replace(
            first,
            latents=torch.cat([batch.latents for batch in self.batches]),
            condition=torch.cat([batch.condition for batch in self.batches]),
            frames=sum((batch.frames for batch in self.batches), ()),
            tokens=sum((batch.tokens for batch in self.batches), ()),
            keys=sum((batch.keys for batch in self.batches), ()),
            weight=0.0,
            places=sum((batch.places for batch in self.batches), ()),
        )


def fitted(draws: Draws, frames: int) -> Draws:
    """Draws whose noise is padded to so many frames."""
    return replace(draws, noise=_longer(draws.noise, frames))


def together(draws: Sequence[Draws]) -> Draws:
    """The draws of batches as those of one."""
    return Draws(*(torch.cat([getattr(one, name) for one in draws]) for name in Draws.__dataclass_fields__))


def _padded(batch: Batch, frames: int, tokens: int) -> Batch:
    return replace(batch, latents=_longer(batch.latents, frames), condition=_longer(batch.condition, tokens))


def _longer(rows: Tensor, length: int) -> Tensor:
    return pad(rows, (0, 0, 0, length - rows.shape[1]))


@dataclass
class StepsTogether(Dataset[list[Together] | Unreadable]):
    """Optimizer steps of several lanes; item i is the step that each lane stands i steps before."""

    lanes: Sequence[Steps]
    starts: Sequence[int]
    """The step each lane goes on from."""
    stops: Sequence[int]
    """The number of steps of each lane's run; it takes no part from there on."""
    max_frames: int
    """Padded frames a micro-batch may hold, those of all lanes together."""

    def __getitem__(self, index: int) -> list[Together] | Unreadable:
        try:
            return self._micro_batches(index)
        except Refused as refusal:
            return Unreadable(str(refusal))

    def _micro_batches(self, index: int) -> list[Together]:
        at = {lane: start + index for lane, start in enumerate(self.starts) if start + index < self.stops[lane]}
        placed = [(lane, visit) for lane, step in at.items() for visit in self.lanes[lane].placed(step)]
        lengths = [self.lanes[lane].plan.lengths[visit.song] for lane, (visit, _) in placed]
        return [
            self._batch([placed[position] for position in sorted(group)], at)
            for group in groups(lengths, self.max_frames)
        ]

    def _batch(self, placed: Sequence[tuple[int, Placed]], at: dict[int, int]) -> Together:
        own: dict[int, list[Placed]] = {}
        for lane, visit in placed:
            own.setdefault(lane, []).append(visit)
        batches = {
            lane: self.lanes[lane].batch(visits, self.lanes[lane].weight(at[lane])) for lane, visits in own.items()
        }
        return Together.of(batches)

    def loader(self, workers: int, pin_memory: bool) -> DataLoader[list[Together] | Unreadable]:
        """The steps in order, until every lane is at its end."""
        left = max(stop - start for start, stop in zip(self.starts, self.stops, strict=True))
        return one_by_one(self, range(left), workers, pin_memory)
