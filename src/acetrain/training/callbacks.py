"""What happens around the steps: figures, held-out loss, checkpoints, and the end."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from acetrain.tracking.progress import TrainingProgress
from acetrain.tracking.table import Table, read
from acetrain.training import advice, checkpoint
from acetrain.training.checkpoint import Checkpoint
from acetrain.training.device import peak_memory
from acetrain.training.ending import Judge
from acetrain.training.module import T_BINS, FlowMatching, StepReport
from acetrain.training.run_folder import written
from acetrain.training.sampler import Sampler
from acetrain.training.signals import stopping
from acetrain.training.validation import Validation
from acetrain.training.watch import Watch

METRICS = ("epoch", "loss", "val_loss", "lr", "grad_norm", "skipped", "songs", "frames", "padding")
SPEED = ("songs_per_s", "frames_per_s", "peak_memory_mb", "seconds")


class Keeper(Callback):
    """Runs after every step, in this order: validate, record, save, stop. The order is in one place, and matters.

    What it saves at step k is written after the rows of step k: a run that goes on from there has every row before it.
    The finished adapter is written before the last checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, str],
        validation: Validation,
        steps_per_epoch: int,
        every: "Every",
        save_adapter: Callable[[Path], None],
        sampler: Sampler | None = None,
    ) -> None:
        self.folder, self.identity, self.validation = folder, identity, validation
        self.steps_per_epoch, self.every, self.save_adapter = steps_per_epoch, every, save_adapter
        self.sampler = sampler
        """What makes music on the way; None where none is asked for."""
        self.judge: Judge | None = None
        """What is asked after every validation but the last; None where the run is nobody's trial."""
        self.hopeless = False
        """Whether the judge has ended the run."""
        self.best: dict[str, float] = {}
        """Lowest held-out loss of each judged set of weights."""
        self.histogram = [0] * T_BINS
        self.resumed: Checkpoint | None = None
        self.ending = ExitStack()
        """What is undone when training ends, however it ends."""
        self.started = False
        self.label = ""
        """What its lines of progress begin with, where other runs train beside it."""

    def setup(self, trainer: Trainer, pl_module: FlowMatching, stage: str) -> None:  # pyright: ignore
        """Take up the newest checkpoint, the same on every rank."""
        newest = trainer.strategy.broadcast(max(written(self.folder), default=None))
        if newest is None:
            return
        self.resumed = checkpoint.read(newest)
        checkpoint.restore(self.resumed, pl_module, self.identity)
        self.best, self.histogram = self.resumed.progress["best"], self.resumed.progress["histogram"]

    def on_train_start(self, trainer: Trainer, pl_module: FlowMatching) -> None:  # pyright: ignore
        self.started = True
        self.ending.enter_context(stopping(pl_module))
        if self.resumed is not None:
            checkpoint.load_optimizer(pl_module.optimizer.optimizer, self.resumed.optimizer)
        self._open_tables(pl_module, None if self.resumed is None else pl_module.step)
        if self.resumed is None:
            pl_module.begin()
        if pl_module.step == 0:
            self._validate(pl_module)
        self._take_up_samples(trainer, pl_module)
        self.clock = time.monotonic()

    @rank_zero_only
    def _open_tables(self, module: FlowMatching, last_step: int | None) -> None:
        kinds = module.recipe.ema.kinds
        averaged = [f"val_loss{kind}" for kind in kinds if kind]
        columns = [*METRICS, *averaged, *module.figures(), *self._bins(module), *SPEED]
        self.metrics = Table(self.folder / "metrics.csv", columns, last_step)
        self.watch = Watch(module.recipe.optimizer, self.steps_per_epoch)
        self.watch.go_on_from(read(self.metrics.path))
        losses = [f"loss{kind}" for kind in kinds]
        self.held_out = Table(self.folder / "validation.csv", ["song", "quantile", "t", *losses], last_step)
        self.progress = TrainingProgress(module.step, module.horizon.total, self.label)
        self.ending.callback(self.progress.close)

    def _bins(self, module: FlowMatching) -> list[str]:
        """Columns of the held-out loss at each quantile, of each judged set of weights."""
        times = self.validation.times if self.validation.songs else []
        return [f"val_t{t:.3f}{kind}" for kind in module.recipe.ema.kinds for t in times]

    def on_train_batch_end(self, trainer: Trainer, pl_module: FlowMatching, *_: Any) -> None:  # pyright: ignore
        report = pl_module.report
        assert report is not None
        due = report.step % self.every.validate == 0 or report.step == pl_module.horizon.total
        seconds = time.monotonic() - self.clock
        losses = self._validate(pl_module) if due else {}
        self.histogram = [a + b for a, b in zip(self.histogram, report.t_histogram, strict=True)]
        self._record(trainer, pl_module, report, losses, seconds)
        self.hopeless = self._judged(trainer, pl_module, losses)
        last = report.step == pl_module.horizon.total or pl_module.agreed_stop or self.hopeless
        if report.step == pl_module.horizon.total:
            for kind, weights in pl_module.judged(pl_module.optimizer.optimizer).items():
                with weights:
                    self._save_adapter(f"adapter{kind}")
            self._sample(trainer, pl_module)
        if report.step % self.every.save == 0 or last:
            self.save(pl_module)
        if report.step < pl_module.horizon.total:
            self._sample(trainer, pl_module)
        if pl_module.agreed_stop or self.hopeless:
            trainer.strategy.barrier("stopped")  # a scheduler may end the others once one rank has ended
            trainer.should_stop = True
        self.clock = time.monotonic()

    def _judged(self, trainer: Trainer, module: FlowMatching, losses: Mapping[str, Tensor]) -> bool:
        """Whether the run is to end after this step: the first rank, which alone has a judge, asks, and all hear it."""
        if not losses or module.step == module.horizon.total:
            return False
        means = {f"val_loss{kind}": found.mean().item() for kind, found in losses.items()}
        return trainer.strategy.broadcast(self.judge is not None and self.judge(module.step, means))

    def _sample(self, trainer: Trainer, module: FlowMatching) -> None:
        """The music of the present step, where it is due, of the averaged weights where there are such.

        It comes after the checkpoint, so that a kill in it loses nothing, but before the last one: a run that is at its
        end has all its music. The other ranks wait.
        """
        if self.sampler is None or not self.sampler.due(module.step, module.horizon.total):
            return
        *_, weights = module.judged(module.optimizer.optimizer).values()
        if trainer.is_global_zero:
            with weights:
                self.sampler.make(module, trainer.loggers)
        trainer.strategy.barrier("samples")

    def _take_up_samples(self, trainer: Trainer, module: FlowMatching) -> None:
        """Hand over the base's music at the start; after a restart make that of the present step, name what is lost."""
        if self.sampler is None:
            return
        if self.resumed is None and trainer.is_global_zero:
            self.sampler.introduce(trainer.loggers)
        if self.resumed is not None:
            self.sampler.tell_lost(module.step)
            self._sample(trainer, module)

    def _validate(self, module: FlowMatching) -> dict[str, Tensor]:
        """Held-out losses of each judged set of weights; the best of each so far are kept in `best/`, `best_ema/`."""
        losses: dict[str, Tensor] = {}
        if not self.validation.songs:
            return losses
        for kind, weights in module.judged(module.optimizer.optimizer).items():
            with weights:
                losses[kind] = self.validation.losses(module)
                mean = losses[kind].mean().item()
                if module.step and mean < self.best.get(kind, math.inf):
                    self.best[kind] = mean
                    self._save_adapter(f"best{kind}")
        self._record_validation(module, losses)
        return losses

    @rank_zero_only
    def _save_adapter(self, name: str) -> None:
        self.save_adapter(self.folder / name)

    @rank_zero_only
    def _record_validation(self, module: FlowMatching, losses: Mapping[str, Tensor]) -> None:
        times = self.validation.times
        self.held_out.append(
            [
                {"step": module.step, "song": song.name, "quantile": quantile, "t": t}
                | {f"loss{kind}": found[row, quantile].item() for kind, found in losses.items()}
                for row, song in enumerate(self.validation.songs)
                for quantile, t in enumerate(times)
            ]
        )

    @rank_zero_only
    def _record(
        self, trainer: Trainer, module: FlowMatching, report: StepReport, losses: Mapping[str, Tensor], seconds: float
    ) -> None:
        row = {
            "step": report.step,
            "epoch": (report.step - 1) // self.steps_per_epoch,
            "loss": report.loss,
            "lr": report.lr,
            "grad_norm": report.grad_norm,
            "skipped": int(report.skipped),
            "songs": report.songs,
            "frames": report.frames,
            "padding": 1 - report.frames / report.padded_frames,
            "songs_per_s": report.songs / seconds,
            "frames_per_s": report.frames / seconds,
            "peak_memory_mb": peak_memory(module.device) / 2**20,
            "seconds": seconds,
        }
        figures = module.figures()
        row |= figures
        if losses:
            row |= {f"val_loss{kind}": found.mean().item() for kind, found in losses.items()}
            means = [mean for found in losses.values() for mean in found.mean(dim=0).tolist()]
            row |= dict(zip(self._bins(module), means, strict=True))
        self.metrics.append([row])
        advice.say(advice.noted(self.folder, self.watch.after(row)))
        self._track(trainer, row)
        self.progress.update(report.step, report.loss, row["songs_per_s"], row["frames_per_s"])

    def _track(self, trainer: Trainer, row: Mapping[str, Any]) -> None:
        figures = {name: value for name, value in row.items() if name != "step"}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=row["step"])

    @rank_zero_only
    def save(self, module: FlowMatching) -> None:
        """Write a checkpoint of the state between two steps."""
        progress = {"best": self.best, "histogram": self.histogram}
        checkpoint.write(checkpoint.capture(module, self.identity, progress), self.folder, self.every.keep)

    def on_train_end(self, trainer: Trainer, pl_module: FlowMatching) -> None:  # pyright: ignore
        self.ending.close()

    def on_exception(self, trainer: Trainer, pl_module: FlowMatching, exception: BaseException) -> None:  # pyright: ignore
        self.ending.close()


class Every:
    """How often the keeper acts, in steps, and how many checkpoints it keeps."""

    def __init__(self, save: int, validate: int, keep: int) -> None:
        self.save, self.validate, self.keep = save, validate, keep
