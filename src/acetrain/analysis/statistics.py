"""One pass over songs that collects the moments of what passes through an adapter's updates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.acestep.dit import valid_rows
from acetrain.acestep.names import official
from acetrain.analysis.beside import Beside
from acetrain.analysis.moments import Moments
from acetrain.analysis.truncate import Decomposed
from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache, CachedSong
from acetrain.errors import Failed
from acetrain.flow.path import target
from acetrain.keyed import generator
from acetrain.training.draws import Draws, fixed
from acetrain.training.objective import Objective


@dataclass(frozen=True)
class Observer:
    """Songs and times that moments are taken over."""

    cache: Cache
    songs: Sequence[CachedSong]
    times: Sequence[float]
    draws: int
    """Gauss-Newton draws of each song at each time."""
    seed: int

    def moments(
        self, objective: Objective, updates: Mapping[str, Decomposed], advance: Callable[[], None]
    ) -> dict[str, Moments]:
        """One pass over the songs with the updates in place. A song counts as the loss's reduction says.

        Raises Failed where what passes through an update is not finite.
        """
        found = {name: Moments.of(one.rank) for name, one in updates.items()}
        counts = objective.loss.reduction.counts([song.frames for song in self.songs])
        objective.dit.eval()
        beside = Beside(updates, watching=True)
        with beside.added_to(objective.dit):
            for song, count in zip(self.songs, counts, strict=True):
                weight = count / sum(counts) / len(self.times)
                batch = collate([self.cache.read(song)], [("statistics", song.name)], 0.0).to(objective.silence.device)
                for place, t in enumerate(self.times):
                    self._add(found, objective, beside, batch, fixed(batch, t, self.seed, place), weight, place)
                if broken := next((name for name, one in found.items() if not one.finite), None):
                    what = f"what passes through {official(broken)} is not finite"
                    raise Failed(f"{song.name}: {what} with this adapter; precision=fp32 may help")
                advance()
        return found

    def _add(
        self,
        found: Mapping[str, Moments],
        objective: Objective,
        beside: Beside,
        batch: Batch,
        draws: Draws,
        weight: float,
        place: int,
    ) -> None:
        with torch.enable_grad():
            velocity = objective.velocity(batch, draws)
            names = list(beside.seen)
            leaves = [beside.seen[name].scaled for name in names]
            difference = (velocity.detach() - target(batch.latents, draws.noise)).float()
            slope, curvature = derivatives(objective, difference, batch, draws)
            back = torch.autograd.grad(velocity, leaves, slope.to(velocity.dtype), retain_graph=True)
            for name, gradient in zip(names, back, strict=True):
                _add_first(found[name], beside, name, gradient, weight)
            for draw in range(self.draws):
                drawn = torch.randn(velocity.shape, generator=generator(self.seed, *batch.keys[0], place, draw, "e"))
                sent = drawn.to(velocity) * curvature.clamp_min(0).sqrt().to(velocity)
                last = draw == self.draws - 1
                back = torch.autograd.grad(velocity, leaves, sent, retain_graph=not last)
                for name, gradient in zip(names, back, strict=True):
                    _add_second(found[name], beside, name, gradient, weight / self.draws)
        beside.seen.clear()


def derivatives(
    objective: Objective, difference: Float[Tensor, "song frame channel"], batch: Batch, draws: Draws
) -> tuple[Float[Tensor, "song frame channel"], Float[Tensor, "song frame channel"]]:
    """First and second derivative of each song's loss by each element of the velocity; 0 where it is padded."""
    with torch.enable_grad():
        moved = difference.detach().requires_grad_(True)
        slope = torch.autograd.grad(objective.loss.distance(moved).sum(), moved, create_graph=True)[0]
        bend = torch.autograd.grad(slope.sum(), moved)[0] if slope.requires_grad else torch.zeros_like(moved)
    valid = valid_rows(batch.frames, difference.shape[1], difference.device)
    outputs = valid.sum(dim=1) * difference.shape[2]
    share = (objective.weighting.weights(draws.t) / outputs).view(-1, 1, 1) * valid.unsqueeze(-1)
    return slope.detach() * share, bend.detach() * share


def _add_first(moments: Moments, beside: Beside, name: str, gradient: Tensor, weight: float) -> None:
    z, g = _rows(beside, name, gradient)
    moments.inputs += weight / len(z) * (z.T @ z).cpu().double()
    moments.first += weight * (g.T @ z).cpu().double()


def _add_second(moments: Moments, beside: Beside, name: str, gradient: Tensor, weight: float) -> None:
    z, p = _rows(beside, name, gradient)
    root = beside.factors[name][1].sqrt()
    moments.gradients += weight * (p.T @ p).cpu().double()
    moments.squared += weight * ((p * root).T @ (z * root)).double().square().sum().item()


def _rows(beside: Beside, name: str, gradient: Tensor) -> tuple[Tensor, Tensor]:
    return beside.seen[name].inputs, gradient.flatten(0, -2).float()
