"""What happens around the steps: figures, held-out loss, checkpoints, and the end."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from acetrain.tracking.progress import TrainingProgress
from acetrain.tracking.table import Table
from acetrain.training import advice, checkpoint
from acetrain.training.checkpoint import Checkpoint
from acetrain.training.device import peak_memory
from acetrain.training.module import T_BINS, FlowMatching, StepReport
from acetrain.training.signals import stopping
from acetrain.training.validation import Validation

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
    ) -> None:
        self.folder, self.identity, self.validation = folder, identity, validation
        self.steps_per_epoch, self.every, self.save_adapter = steps_per_epoch, every, save_adapter
        self.best = float("inf")
        self.histogram = [0] * T_BINS
        self.resumed: Checkpoint | None = None
        self.ending = ExitStack()
        """What is undone when training ends, however it ends."""
        self.started = False

    def setup(self, trainer: Trainer, pl_module: FlowMatching, stage: str) -> None:  # pyright: ignore
        """Take up the newest checkpoint, the same on every rank."""
        newest = trainer.strategy.broadcast(max(checkpoint.written(self.folder), default=None))
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
        if pl_module.step == 0:
            self._validate(pl_module)
        self.clock = time.monotonic()

    @rank_zero_only
    def _open_tables(self, module: FlowMatching, last_step: int | None) -> None:
        bins = [f"val_t{t:.3f}" for t in self.validation.times(module).tolist()] if self.validation.songs else []
        columns = [*METRICS, *module.figures(), *bins, *SPEED]
        self.metrics = Table(self.folder / "metrics.csv", columns, last_step)
        self.held_out = Table(self.folder / "validation.csv", ["song", "quantile", "t", "loss"], last_step)
        self.progress = TrainingProgress(module.step, module.horizon.total)
        self.ending.callback(self.progress.close)

    def on_train_batch_end(self, trainer: Trainer, pl_module: FlowMatching, *_: Any) -> None:  # pyright: ignore
        report = pl_module.report
        assert report is not None
        last = report.step == pl_module.horizon.total or pl_module.agreed_stop
        due = report.step % self.every.validate == 0 or report.step == pl_module.horizon.total
        seconds = time.monotonic() - self.clock
        losses = self._validate(pl_module) if due else None
        self.histogram = [a + b for a, b in zip(self.histogram, report.t_histogram, strict=True)]
        self._record(trainer, pl_module, report, losses, seconds)
        if report.step == pl_module.horizon.total:
            with pl_module.evaluating():
                self._save_adapter("adapter")
        if report.step % self.every.save == 0 or last:
            self.save(pl_module)
        if pl_module.agreed_stop:
            trainer.should_stop = True
        self.clock = time.monotonic()

    def _validate(self, module: FlowMatching) -> Tensor | None:
        """Held-out losses of the present weights; the best ones so far are kept in `best/`."""
        if not self.validation.songs:
            return None
        with module.evaluating():
            losses = self.validation.losses(module)
            self._record_validation(module, losses)
            mean = losses.mean().item()
            if module.step and mean < self.best:
                self.best = mean
                self._save_adapter("best")
        return losses

    @rank_zero_only
    def _save_adapter(self, name: str) -> None:
        self.save_adapter(self.folder / name)

    @rank_zero_only
    def _record_validation(self, module: FlowMatching, losses: Tensor) -> None:
        times = self.validation.times(module).tolist()
        self.held_out.append(
            [
                {"step": module.step, "song": song.name, "quantile": quantile, "t": times[quantile], "loss": loss}
                for song, row in zip(self.validation.songs, losses.tolist(), strict=True)
                for quantile, loss in enumerate(row)
            ]
        )

    @rank_zero_only
    def _record(
        self, trainer: Trainer, module: FlowMatching, report: StepReport, losses: Tensor | None, seconds: float
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
        advice.say(advice.after(module.recipe.optimizer, report.step, figures))
        if losses is not None:
            times = self.validation.times(module).tolist()
            row["val_loss"] = losses.mean().item()
            row |= {f"val_t{t:.3f}": loss for t, loss in zip(times, losses.mean(dim=0).tolist(), strict=True)}
        self.metrics.append([row])
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
