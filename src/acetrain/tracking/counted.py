"""How far a job of many like steps is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def counted(label: str, total: int, stderr: bool = False) -> Iterator[Callable[[], None]]:
    """Show `total` steps; the function that is yielded tells that one more is done."""
    stream = sys.stderr if stderr else sys.stdout
    console = Console(file=stream)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    done, last_line = 0, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)

        def advance() -> None:
            nonlocal done, last_line
            done += 1
            bar.advance(task)
            if bar.disable and (done == total or time.monotonic() - last_line >= LINE_EVERY):
                last_line = time.monotonic()
                print(f"{label}: {done}/{total}", file=stream, flush=True)

        yield advance
