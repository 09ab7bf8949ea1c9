"""Second moments of what passes through an adapter's updates, and what they predict a truncation to cost.

Truncating changes a module's update by -E. At token i of a song the output then moves by -E x_i, and with g_i the
gradient of the song's loss at that output the loss changes by

    -sum_i g_i' E x_i + 1/2 sum_ij (E x_i)' N_ij (E x_j),    N_ij the Gauss-Newton block of tokens i and j.

With v the velocity, J_i = dv/dy_i and c the second derivative of the distance, N_ij = J_i' diag(c / outputs) J_j. A
draw e ~ N(0, diag(c / outputs)) sent back from the velocity gives h_i = J_i' e with E[h_i h_j'] = N_ij (Schraudolph
2002; Martens 2014). So the second term is E[<E, D>^2] / 2 with D = sum_i h_i x_i', exactly. In the coordinates of the
update's singular vectors, p_i = U'h_i and z_i = V'x_i, only sums of rank x rank are needed:

    H = mean_i z_i z_i',   G = sum_i p_i p_i',   M = sum_i p_i z_i',   first = sum_i (U'g_i) z_i'.

KFAC-expand (Martens and Grosse 2015; Eschenhagen et al. 2023) takes p and z for independent and tokens for
uncorrelated: with E = U C V', E[<C, M>^2] = tr(C'G C H). That leaves out i != j, tokens that move the same outputs
together. Its total is therefore set to the exact one: G is multiplied by E|M|^2 / (tr G tr H), both in coordinates
weighted by diag(s), so that the mean over all directions is right and only their shape is KFAC's. Between modules all
is taken to add up: what truncating several does together is left out, and with it part of a large change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from acetrain.acestep.dit import valid_rows
from acetrain.analysis.beside import Beside
from acetrain.analysis.truncate import Decomposed, Seen, Truncation
from acetrain.data.batch import Batch, collate
from acetrain.data.cache import Cache, CachedSong
from acetrain.flow.path import target
from acetrain.keyed import generator
from acetrain.training.draws import Draws, fixed
from acetrain.training.objective import Objective


@dataclass
class Moments:
    """Weighted sums over songs, times and draws of one module; fp64, on the CPU."""

    inputs: Float64[Tensor, "rank rank"]
    gradients: Float64[Tensor, "rank rank"]
    first: Float64[Tensor, "rank rank"]
    squared: float = 0.0
    """|M|^2 between coordinates weighted by s^(1/2)."""

    @classmethod
    def of(cls, rank: int) -> "Moments":
        """Nothing seen yet."""
        return cls(torch.zeros(rank, rank).double(), torch.zeros(rank, rank).double(), torch.zeros(rank, rank).double())

    def seen(self, s: Float[Tensor, " rank"]) -> Seen:
        """The moments that truncation goes by, their product brought to its exact total."""
        traces = ((self.inputs.diagonal() * s).sum() * (self.gradients.diagonal() * s).sum()).item()
        return Seen(self.inputs, self.gradients * (self.squared / traces if traces > 0 else 1.0))


@dataclass(frozen=True)
class Predicted:
    """What truncating a module is predicted to change in the loss."""

    linear: float
    quadratic: float

    @property
    def total(self) -> float:
        return self.linear + self.quadratic


def predicted(found: Truncation, moments: Moments, rank: int) -> Predicted:
    """The change of loss when a module's update is truncated to `rank`."""
    error = torch.diag(found.whole.s) - found.core(rank)
    seen = moments.seen(found.whole.s)
    assert seen.gradients is not None
    curved = (error.T @ seen.gradients @ error * seen.inputs).sum().item()
    return Predicted(-(error * moments.first).sum().item(), 0.5 * curved)


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
        """One pass over the songs with the updates in place. A song counts as the loss's reduction says."""
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
