"""How far a training is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


class TrainingProgress:
    """The progress of a run from `start` to `total` steps, in lines that begin with `label` where it has one."""

    def __init__(self, start: int, total: int, label: str = "") -> None:
        self.console = Console(file=sys.stdout)
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                "loss {task.fields[loss]:.4f} · {task.fields[songs]:.1f} songs/s · {task.fields[frames]:.0f} frames/s"
            ),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console, disable=bool(label) or not self.console.is_terminal)
        self.task = self.bar.add_task("", completed=start, total=total, loss=float("nan"), songs=0.0, frames=0.0)
        self.total, self.last_line, self.label = total, time.monotonic(), f"{label}: " if label else ""
        self.bar.start()

    def update(self, step: int, loss: float, songs: float, frames: float) -> None:
        """Show `step` steps done, the last one's loss, and songs and frames a second."""
        self.bar.update(self.task, completed=step, loss=loss, songs=songs, frames=frames)
        due = time.monotonic() - self.last_line >= LINE_EVERY or step == self.total
        if self.bar.disable and due:
            self.last_line = time.monotonic()
            speed = f"{songs:.1f} songs/s, {frames:.0f} frames/s"
            print(f"{self.label}step {step}/{self.total}: loss {loss:.4f}, {speed}", flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()
