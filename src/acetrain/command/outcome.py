"""How an attempt ended: the exit code that schedulers see, and at most four lines that people read."""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType

from acetrain.errors import Failed, Interrupted, Refused
from acetrain.stopping import STOPPING, heed_once

DONE = 0
FAILED = 1
REFUSED = 2
SIGNALLED = 128
"""Plus the number of the signal."""

_LINES = 4
_WIDTH = 400


@dataclass(frozen=True)
class Outcome:
    """An exit code and what to say on stderr."""

    code: int
    message: str = ""

    def lines(self) -> list[str]:
        """The message, cut to what fits a terminal and a scheduler's log."""
        lines = self.message.splitlines()[:_LINES]
        return [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in lines]


def outcome_of(action: Callable[[], Outcome | None], debug: bool) -> Outcome:
    """Do `action`; the ends that jobs provide for become outcomes, a signal is raised as Interrupted.

    An action that tells nothing is done. What nobody expected is raised as it is: see `unexpected`.
    With `debug` the trace of an error goes to stderr first.
    """
    try:
        return action() or Outcome(DONE)
    except KeyboardInterrupt as error:
        raise Interrupted(signal.SIGINT, "") from error
    except Refused as refusal:
        _trace(debug)
        return Outcome(REFUSED, str(refusal))
    except Failed as failure:
        _trace(debug)
        return Outcome(FAILED, str(failure))


def unexpected(error: BaseException, debug: bool) -> Outcome:
    """A failure that no job provides for: the error in a line, and how to see its trace."""
    hint = "" if debug else "\n--debug shows the trace"
    return Outcome(FAILED, f"{type(error).__name__}: {str(error).strip() or 'without a message'}"[:_WIDTH] + hint)


def say_unexpected(debug: bool, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.excepthook`: an error that ends the process, in few lines, or with `debug` as Python shows it."""
    if debug or not isinstance(error, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    for line in unexpected(error, debug).lines():
        print(line, file=sys.stderr)


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 raise Interrupted, so that files in the making are cleared away.

    Libraries catch KeyboardInterrupt and go on or exit with a code of theirs; Interrupted passes them. A signal that
    the process was started to ignore, as SIGINT is in the background of a script, stays ignored. Where a library that
    was cut short raises an error of its own while it clears up, the signal is still what ended the job.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        heed_once()
        raise Interrupted(number, "")

    previous = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if received and not isinstance(sys.exception(), Interrupted):
            raise Interrupted(received[0], "")
