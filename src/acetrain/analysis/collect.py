"""One pass over the songs: for every unit that is missing, the sums of all modules."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import torch
from torch import nn

from acetrain.acestep.names import official
from acetrain.analysis.accumulate import Accumulator, Sides
from acetrain.analysis.grid import Unit, Visit
from acetrain.analysis.parts import Parts
from acetrain.analysis.probe import Probe
from acetrain.analysis.sketch import Signs
from acetrain.analysis.state import State
from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache
from acetrain.errors import Failed
from acetrain.training.draws import fixed
from acetrain.training.objective import Objective
from acetrain.training.replicas import first_rank, sum_over_ranks


@dataclass(frozen=True)
class Pass:
    """How the sums come about."""

    objective: Objective
    layers: Mapping[str, nn.Linear]
    cache: Cache
    sketch: int
    seed: int
    compute: torch.dtype
    """Format of matrix products, of those that take gradients too; these are added up in fp32."""
    autocast: Callable[[], AbstractContextManager[object]]
    rank: int
    ranks: int

    def collect(self, units: Sequence[Unit], state: State, advance: Callable[[], None]) -> None:
        """Add up each of `units` over all ranks and write it.

        Raises Failed where a loss or a gradient is not finite.
        """
        half = None
        with Probe(self.layers) as probe:
            for unit in units:
                if unit.half != half:
                    half, probe.accumulators = unit.half, {}  # the old ones go before the new ones come
                    probe.accumulators = self._accumulators(unit)
                with Parts(state.folder, probe.accumulators, len(unit.shares)) as parts:
                    for group, visits in groupby(unit.visits[self.rank :: self.ranks], attrgetter("group")):
                        for visit in visits:
                            self._visit(probe, visit)
                            advance()
                        parts.keep(group)
                    self._finish(unit, parts, state)

    def _finish(self, unit: Unit, parts: Parts, state: State) -> None:
        device = self.objective.silence.device
        sums = {
            name: {
                part: sum_over_ranks(value.to(device)).cpu()
                for part, value in {**accumulator.sums, "groups": parts.of(name)}.items()
            }
            for name, accumulator in parts.accumulators.items()
        }
        if first_rank():
            state.write(unit, sums)
        for accumulator in parts.accumulators.values():
            accumulator.clear()

    def _accumulators(self, unit: Unit) -> dict[str, Accumulator]:
        device = self.objective.silence.device
        sides = Sides(Signs(self.sketch, self.seed, unit.half), device, self.compute)
        return {
            name: Accumulator((layer.out_features, layer.in_features), sides) for name, layer in self.layers.items()
        }

    def _visit(self, probe: Probe, visit: Visit) -> None:
        batch = self._batch(visit)
        draws = fixed(batch, visit.t, *visit.noise)
        with self.autocast():
            loss = self.objective.song_losses(batch, draws).sum()
        if not torch.isfinite(loss):
            raise Failed(f"{visit.song.name}: the loss at t={visit.t:.3f} is not finite; precision=fp32 may help")
        probe.visit(loss, visit.weight)
        if broken := probe.broken():
            what = f"the gradient of {official(broken)} at t={visit.t:.3f} is not finite"
            raise Failed(f"{visit.song.name}: {what}; precision=fp32 may help")

    def _batch(self, visit: Visit) -> Batch:
        song = visit.song
        batch = collate([self.cache.read(song)], [(self.seed, "sensitivity", song.name)], 1.0)
        return batch.to(self.objective.silence.device)
