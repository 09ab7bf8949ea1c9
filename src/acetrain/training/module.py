"""The training step: one optimizer step is the mean over its songs, however it is split."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import Base
from acetrain.adapters.injection import trainable
from acetrain.adapters.regime import Regime
from acetrain.data.batch import Batch
from acetrain.errors import Failed
from acetrain.flow.importance import nothing_yet
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.keyed import seed_of
from acetrain.training.average import Average
from acetrain.training.draws import Draws, draw
from acetrain.training.ema import AVERAGED, EmaOption
from acetrain.training.objective import Objective
from acetrain.training.optimizer import OptimizerOption
from acetrain.training.replicas import largest_over_ranks, sum_gradients, sum_over_ranks
from acetrain.training.schedule import Horizon, Schedule

T_BINS = 20
"""Bins of the logged timestep histogram."""


@dataclass(frozen=True)
class Recipe:
    """The choices that define the objective and its descent."""

    timesteps: Timesteps
    loss: Loss
    weighting: Weighting
    optimizer: OptimizerOption
    schedule: Schedule
    ema: EmaOption
    condition_dropout: float
    clip: float
    max_bad_steps: int
    seed: int


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did, over all ranks."""

    step: int
    """Steps done, this one included."""
    loss: float
    grad_norm: float
    lr: float
    skipped: bool
    songs: int
    frames: int
    padded_frames: int
    t_histogram: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A micro-batch that has been through the model."""

    batch: Batch
    t: Float[Tensor, " song"]
    weights: Float[Tensor, " song"]
    bins: Int64[Tensor, " song"]
    losses: Float[Tensor, " song"]


class FlowMatching(LightningModule):
    """Conditional flow matching of an adapter on a frozen DiT. A loader item is one optimizer step."""

    dit: MaskedDiT
    null_condition: Tensor
    silence: Tensor

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        total_steps: int,
        regime: Regime | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.dit, self.recipe = base.dit, recipe
        self.regime = regime or Regime()
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.register_buffer("null_condition", base.null_condition, persistent=False)
        self.register_buffer("silence", base.silence, persistent=False)
        self.average = recipe.ema.over(trainable(base.dit).values())
        self.horizon = Horizon(total_steps)
        self.step = 0
        self.bad_steps = 0
        self.running = nothing_yet(recipe.timesteps.followed_bins)
        """Losses of earlier steps by bin of the density, the same on every rank; on the CPU."""
        self.requested_stop = 0
        """Number of a signal this rank has received."""
        self.agreed_stop = 0
        """Number of a signal any rank had received when the last step was summed: the same on every rank."""
        self.report: StepReport | None = None
        self.lane = 0
        """Its place among modules that are trained side by side."""

    @property
    def flow(self) -> Objective:
        """The loss on the DiT as it is."""
        return Objective(self.dit, self.null_condition, self.silence, self.recipe.loss, self.recipe.weighting)

    def song_losses(self, batch: Batch, draws: Draws) -> Float[Tensor, " song"]:
        """The loss of each song at its time and noise, weighted by its time."""
        return self.flow.song_losses(batch, draws)

    def objective(self, batch: Batch) -> Float[Tensor, ""]:
        """The mean loss of a batch's songs, at times and noise of their own, no condition dropped."""
        batch = batch.to(self.device)
        return self.song_losses(batch, draw(batch, self.recipe.timesteps, 0.0)).mean()

    def begin(self) -> None:
        """Let the adapter take its first weights from songs, where it does; the module is on its device."""
        with self.trainer.precision_plugin.train_step_context():
            self.regime.begin(self, self.objective)
        if self.average is not None:
            self.average.follow(trainable(self.dit).values(), 0)

    def shares(self, batch: Batch) -> Float[Tensor, " song"]:
        """What part of the step's loss each song's is."""
        return torch.tensor(self.recipe.loss.reduction.counts(batch.frames), device=self.device) * batch.weight

    def training_step(self, step: Sequence[Batch], index: int) -> None:
        """One optimizer step over its micro-batches."""
        torch.manual_seed(seed_of(self.recipe.seed, "dropout", self.step, self.global_rank))
        self.update(self.accumulate(step))

    def accumulate(self, step: Sequence[Batch]) -> list[Seen]:
        """Add the gradients of micro-batches; each with its times and its songs' losses."""
        seen = []
        for batch in step:
            draws = self.draws(batch)
            losses = self.song_losses(batch, draws)
            self.manual_backward(self.scaled(batch, draws, losses))
            seen.append(Seen(batch, draws.t, draws.weights, draws.bins, losses.detach()))
        self.add_penalty()
        return seen

    def draws(self, batch: Batch) -> Draws:
        """What chance decides about a batch's songs in the present step."""
        return draw(batch, self.recipe.timesteps, self.recipe.condition_dropout, self.running)

    def scaled(self, batch: Batch, draws: Draws, losses: Float[Tensor, " song"]) -> Float[Tensor, ""]:
        """What a batch adds to the step's loss, times the scale of fp16."""
        return self.scaler.scale((losses * draws.weights * self.shares(batch)).sum())

    def add_penalty(self) -> None:
        """Add the gradient of what the adapter adds to the step's loss."""
        penalty = self.regime.penalty() if self.global_rank == 0 else None
        if penalty is not None:
            self.manual_backward(self.scaler.scale(penalty))

    def update(self, seen: Sequence[Seen]) -> None:
        """Sum over ranks, clip, and descend unless something is not finite."""
        optimizer = self.optimizer
        parameters = list(trainable(self.dit).values())
        sum_gradients(parameters)
        self.scaler.unscale_(optimizer.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        totals = sum_over_ranks(torch.cat([self._totals(seen), self._by_bin(seen)]).to(self.device)).cpu()
        loss, songs, frames, padded, *histogram = totals[: 4 + T_BINS].tolist()
        factor = self.horizon.factor(self.recipe.schedule, self.step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        finite = math.isfinite(norm.item()) and math.isfinite(loss)
        if finite:
            optimizer.step()
        self.regime.stepped(self.step + 1, finite)
        if finite:
            if self.average is not None:
                self.average.follow(parameters, self.step + 1)
            lost, drawn = totals[4 + T_BINS :].double().view(2, self.recipe.timesteps.followed_bins)
            self.running = self.recipe.timesteps.followed(self.running, lost, drawn)
        optimizer.zero_grad()
        self.step += 1
        overflowed = not finite and math.isfinite(loss) and self.scaler.get_scale() > 1
        self.scaler.update()
        self.bad_steps = 0 if finite else self.bad_steps + (not overflowed)
        self.agreed_stop = largest_over_ranks(self.requested_stop, self.device)
        lr = self.recipe.optimizer.lr * factor
        counts = (round(songs), round(frames), round(padded), tuple(map(round, histogram)))
        self.report = StepReport(self.step, loss, norm.item(), lr, not finite, *counts)
        if overflowed:
            self._report_overflow()
        elif not finite:
            self._report_bad_step(seen)

    def _totals(self, seen: Sequence[Seen]) -> Float[Tensor, " total"]:
        """Sums over this rank's songs: loss, songs, frames, padded frames, timestep histogram."""
        real = [part for part in seen if part.batch.weight > 0]
        loss = sum(
            ((part.losses * part.weights * self.shares(part.batch)).cpu().double().sum() for part in real),
            torch.zeros(()),
        )
        t = torch.cat([part.t for part in real]) if real else torch.zeros(0, device=self.device)
        counts = [
            sum(len(part.batch.frames) for part in real),
            sum(sum(part.batch.frames) for part in real),
            sum(part.batch.latents.shape[0] * part.batch.latents.shape[1] for part in real),
        ]
        histogram = torch.histc(t.float().cpu(), T_BINS, 0.0, 1.0)
        return torch.cat([loss.view(1).float(), torch.tensor(counts, dtype=torch.float32), histogram])

    def _by_bin(self, seen: Sequence[Seen]) -> Float[Tensor, " total"]:
        """Sums over this rank's songs for each bin of running losses: what was lost there, then the songs."""
        sums = nothing_yet(self.recipe.timesteps.followed_bins)
        if not sums.numel():
            return sums.flatten().float()
        for part in seen:
            if part.batch.weight > 0:
                lost = part.losses.cpu().double()
                sums.index_add_(1, part.bins, torch.stack([lost, torch.ones_like(lost)]))
        return sums.flatten().float()

    def _report_overflow(self) -> None:
        """Say that a step was skipped for its scale and not for its songs; at a scale of 1 it is a bad step."""
        if self.global_rank == 0:
            scale = self.scaler.get_scale()
            print(f"step {self.step} skipped: its gradients overflow; losses are now scaled by {scale:g}", flush=True)

    def _report_bad_step(self, seen: Sequence[Seen]) -> None:
        """Name the songs of a skipped step; give up after too many in a row."""
        songs = [
            (key[2], time, loss)
            for part in seen
            for key, time, loss in zip(part.batch.keys, part.t.tolist(), part.losses.tolist(), strict=True)
        ]
        culprits = [song for song in songs if not torch.isfinite(torch.tensor(song[2]))] or songs
        named = ", ".join(f"{name} (t={time:.3f}, loss {loss:.3g})" for name, time, loss in culprits)
        print(f"step {self.step} skipped: non-finite loss or gradient with {named}", flush=True)
        if self.bad_steps >= self.recipe.max_bad_steps:
            raise Failed(
                f"trainer.max_bad_steps: {self.bad_steps} steps in a row had a non-finite loss or gradient, "
                f"last with {named}; the last good checkpoint is kept; a lower optimizer.lr usually helps"
            )

    @property
    def optimizer(self) -> LightningOptimizer:
        """The module's optimizer, as Lightning has built it."""
        found = self.optimizers()
        optimizer = found[self.lane] if isinstance(found, list) else found
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def judged(self, optimizer: torch.optim.Optimizer) -> Mapping[str, AbstractContextManager[None]]:
        """Each set of weights to judge and to save, in place of those that train within its context.

        By what the names of its files and figures end with: the optimizer's own, then their average if one is kept.
        """
        found = {"": self.recipe.optimizer.evaluating(optimizer)}
        if self.average is not None:
            found[AVERAGED] = self._averaged(self.average)
        return found

    @contextmanager
    def _averaged(self, average: Average) -> Iterator[None]:
        """Within it the weights are the average of those that trained."""
        with average.within(trainable(self.dit).values()):
            self.regime.hold(self.step)
            yield

    def figures(self) -> dict[str, float]:
        """What the optimizer estimates, such as Prodigy's d, and what losses are scaled by in fp16."""
        figures = self.recipe.optimizer.figures(self.optimizer.optimizer)
        return figures | ({"loss_scale": self.scaler.get_scale()} if self.scaler.is_enabled() else {})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The option's optimizer; the step itself applies the schedule."""
        optimizer = self.recipe.optimizer.build(trainable(self.dit))
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer
