"""Several trainings side by side: one pass through the base for the songs of all, all else each for itself."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule

from acetrain.acestep.dit import MaskedDiT
from acetrain.errors import Failed
from acetrain.training.module import FlowMatching, Seen
from acetrain.training.objective import Objective
from acetrain.training.packed.batches import Together, fitted, together
from acetrain.training.packed.lanes import Rows, pack


class Pack(LightningModule):
    """Trainings whose steps go through one DiT together.

    Each lane is a module as it would train alone, with its own adapter, draws, optimizer, schedule and average. The
    gradient of the sum of all lanes' losses is for each adapter that of its own lane's, as its rows meet no other.
    """

    def __init__(self, dit: MaskedDiT, lanes: Sequence[FlowMatching]) -> None:
        """`dit` is a copy of the base whose weights the lanes share; it becomes the one that all rows go through."""
        super().__init__()
        self.automatic_optimization = False
        self.rows = Rows()
        pack(dit, [lane.dit for lane in lanes], self.rows)
        self.dit, self.lanes = dit, tuple(lanes)
        for number, lane in enumerate(lanes):
            lane.lane = number
            self.add_module(f"lane{number}", lane)
        self.ended: dict[int, Failed | None] = {}
        """Lanes that take no part any more, and what ended them where it was a failure."""
        self.stepped: tuple[int, ...] = ()
        """Lanes that took part in the last step."""

    def training_step(self, step: Sequence[Together], index: int) -> None:
        """The present optimizer step of every lane that is not at its end."""
        seen = self.accumulate([batch for whole in step if (batch := whole.without(list(self.ended))).lanes])
        asked = max(lane.requested_stop for lane in self.lanes)
        self.stepped = tuple(seen)
        for number, found in seen.items():
            lane = self.lanes[number]
            lane.requested_stop = asked
            try:
                lane.update(found)
            except Failed as failure:
                self.ended[number] = failure

    def accumulate(self, step: Sequence[Together]) -> dict[int, list[Seen]]:
        """Add the gradients of micro-batches; what was seen, by lane."""
        seen: dict[int, list[Seen]] = {}
        for batch in step:
            self._accumulate(batch, seen)
        for number in seen:
            self.lanes[number].add_penalty()
        return seen

    def _accumulate(self, batch: Together, seen: dict[int, list[Seen]]) -> None:
        whole = batch.whole()
        frames = whole.latents.shape[1]
        own = [
            fitted(self.lanes[lane].draws(rows), frames) for lane, rows in zip(batch.lanes, batch.batches, strict=True)
        ]
        self.rows.counts = batch.rows(len(self.lanes))
        velocities = self._objective.velocity(whole, together(own)).split([len(rows.frames) for rows in batch.batches])
        scaled = []
        for number, rows, draws, velocity in zip(batch.lanes, batch.batches, own, velocities, strict=True):
            lane = self.lanes[number]
            losses = lane.flow.losses_of(velocity, rows, draws)
            scaled.append(lane.scaled(rows, draws, losses))
            seen.setdefault(number, []).append(Seen(rows, draws.t, draws.weights, draws.bins, losses.detach()))
        self.manual_backward(torch.stack(scaled).sum())

    @property
    def _objective(self) -> Objective:
        first = self.lanes[0].flow
        return Objective(self.dit, first.null_condition, first.silence, first.loss, first.weighting)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Each lane's own."""
        return [lane.configure_optimizers() for lane in self.lanes]
