"""The loss of conditional flow matching on a DiT: what training descends, and what everything else is measured by."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acetrain.acestep.dit import MaskedDiT, valid_rows
from acetrain.acestep.load import Base, text_to_music_context
from acetrain.data.batch import Batch
from acetrain.flow.loss import Loss
from acetrain.flow.path import interpolate, target
from acetrain.flow.weighting import Weighting
from acetrain.training.draws import Draws


@dataclass(frozen=True)
class Objective:
    """The distance between the velocity a DiT predicts and the one that leads to the song, by song."""

    dit: MaskedDiT
    null_condition: Float[Tensor, " width"]
    silence: Float[Tensor, "frame channel"]
    loss: Loss
    weighting: Weighting

    @classmethod
    def on(cls, base: Base, loss: Loss, weighting: Weighting, device: torch.device) -> "Objective":
        """The objective of a base, which is moved to `device`."""
        constants = base.null_condition.to(device), base.silence.to(device)
        base.dit.to(device)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return cls(base.dit, *constants, loss, weighting)

    def song_losses(self, batch: Batch, draws: Draws) -> Float[Tensor, " song"]:
        """The loss of each song at its time and noise, weighted by its time."""
        return self.losses_of(self.velocity(batch, draws), batch, draws)

    def losses_of(
        self, velocity: Float[Tensor, "song frame channel"], batch: Batch, draws: Draws
    ) -> Float[Tensor, " song"]:
        """The loss of each song for which this velocity was predicted."""
        valid = valid_rows(batch.frames, batch.latents.shape[1], batch.latents.device)
        goal = target(batch.latents, draws.noise)
        return self.weighting.weights(draws.t) * self.loss.song_losses(velocity, goal, valid)

    def velocity(self, batch: Batch, draws: Draws) -> Float[Tensor, "song frame channel"]:
        """What the DiT predicts for each song at its time and noise; padded frames mean nothing."""
        x_t = interpolate(batch.latents, draws.noise, draws.t)
        condition = self.condition(batch, draws.dropped)
        context = text_to_music_context(self.silence, batch.latents.shape[1]).expand(len(batch.frames), -1, -1)
        return self.dit.velocity(x_t, draws.t, condition, context, batch.frames, batch.tokens)

    def condition(self, batch: Batch, dropped: Bool[Tensor, " song"]) -> Float[Tensor, "song token width"]:
        """The packed conditions, every row of a dropped song replaced by the null condition."""
        return torch.where(dropped.view(-1, 1, 1), self.null_condition, batch.condition)
