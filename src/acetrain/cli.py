"""`acetrain JOB [key=value ...]`: compose, check, run, and an exit code that schedulers can trust."""

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain import __version__
from acetrain.command.arguments import Request, parse
from acetrain.command.outcome import REFUSED, SIGNALLED, Outcome, ended_by_signals, outcome_of, say_unexpected
from acetrain.command.quiet import quiet
from acetrain.errors import Interrupted, Refused, nearest
from acetrain.ranks import follows

if TYPE_CHECKING:
    from acetrain.command.grid import Grid
    from acetrain.composition.job import Composer


_WORDS = {"inspect": ("adapter_path",), "sweep": ("action", "name")}
"""Job -> the keys that words without one are the values of, in order."""
_LISTS = {"sync": "paths"}
"""Job -> the key that words without one are the entries of."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code.

    An error that no job provides for is raised; with the process's own arguments it ends in a line, and code 1.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    quiet()
    try:
        with ended_by_signals():
            outcome = outcome_of(lambda: _answer(given), debug)
            sys.stdout.flush()
    except Interrupted as interruption:
        outcome = Outcome(SIGNALLED + interruption.signum, str(interruption))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails again
        outcome = Outcome(SIGNALLED + signal.SIGPIPE)
    finally:
        if arguments is None:  # last of all, as libraries that a job loads set hooks of their own
            sys.excepthook = partial(say_unexpected, debug)
    for line in outcome.lines():
        print(line, file=sys.stderr)
    return outcome.code


def _answer(given: Sequence[str]) -> Outcome | None:
    request = parse(given)
    if "--version" in request.flags:
        print(f"acetrain {__version__}")
        return None
    if request.job:
        return _job(request)
    from acetrain.command.manual import usage

    if "--help" not in request.flags and request.changes:
        raise Refused(
            f"{request.changes[0]}: must follow a job: acetrain JOB {request.changes[0]}; see acetrain --help"
        )
    print(usage())
    return None if "--help" in request.flags else Outcome(REFUSED, "a job must be named: acetrain JOB [key=value ...]")


def _job(request: Request) -> Outcome | None:
    from acetrain.command.grid import expand, settings, split, sweep_of
    from acetrain.composition.job import Composer
    from acetrain.composition.sources import Sources
    from acetrain.schemas import JOBS

    if request.job not in JOBS:
        raise Refused(f"{request.job!r}: there is no such job; {nearest(request.job, JOBS)}")
    composer = Composer(request.job, Sources.of(Path.cwd(), request.config_dirs))
    changes = _asked_of_explain(request) if request.job == "explain" else _named(request)
    changes, own = split(composer, changes)
    several = "--multirun" in request.flags
    sweep = sweep_of(changes)
    grid = expand(composer, changes, several)
    if "--help" in request.flags:
        from acetrain.command.manual import manual

        print(manual(composer, grid.cells[0]))
        return None
    if "--cfg" in request.flags:
        _print_configurations(composer, grid)
        return None
    if several or sweep:
        from acetrain.command.multirun import Multirun

        how = settings(composer.sources, own, sweep)
        multirun = Multirun(composer, grid, how, sweep, tuple(request.given), "--debug" in request.flags)
        if how.search.space:
            from acetrain.command.searching import Searching

            return Searching(multirun).start()
        return multirun.start()
    if own or grid.launching:
        raise Refused(f"{[*own, *grid.launching][0]}: must go with -m or sweep=NAME, it says how a multirun is run")
    return _single(composer, grid)


def _single(composer: "Composer", grid: "Grid") -> None:
    job = composer.compose(grid.cells[0]).build()
    if not follows():  # rank 0, which makes the checks, may have begun to write by now
        job.check()
    job.run()


def _print_configurations(composer: "Composer", grid: "Grid") -> None:
    from omegaconf import OmegaConf

    print("---\n".join(OmegaConf.to_yaml(composer.compose(cell).config) for cell in grid.cells), end="")


def _named(request: Request) -> Sequence[str]:
    """The changes, words of a job that is asked about something, such as `acetrain inspect PATH`, as its keys."""
    from acetrain.composition.overrides import quoted

    words = [change for change in request.changes if "=" not in change]
    if words and request.job in _LISTS:
        entries = ",".join(map(quoted, words))
        return [*(change for change in request.changes if "=" in change), f"{_LISTS[request.job]}=[{entries}]"]
    keys = _WORDS.get(request.job, ())
    if len(words) > len(keys) > 0:
        raise Refused(f"{words[len(keys)]!r}: must be key=value, {request.job} takes {' and '.join(keys)} as words")
    named = iter(keys)
    return [change if "=" in change or not keys else f"{next(named)}={change}" for change in request.changes]


def _asked_of_explain(request: Request) -> list[str]:
    """`acetrain explain adapter=lora` as `what=adapter=lora`, and `--config-dir` as its key."""
    from acetrain.composition.overrides import quoted

    changes = [change for change in request.changes if change.startswith(("what=", "config_dirs="))]
    words = [change for change in request.changes if change not in changes]
    if len(words) > 1:
        raise Refused(f"explain: must be asked of one thing at a time, got {' '.join(words)}")
    folders = ",".join(quoted(folder) for folder in request.config_dirs)
    return [*changes, *(f"what={word}" for word in words), *([f"config_dirs=[{folders}]"] if folders else [])]
