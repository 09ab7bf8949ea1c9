"""The ways a job ends early, and the one way a rule is stated."""

import difflib
from collections.abc import Iterable


class Refused(Exception):
    """The request cannot be carried out as asked; nothing was created. Exit code 2."""


class Failed(Exception):
    """The job started and could not finish. Exit code 1."""


class OutOfMemory(Failed):
    """A training's micro-batch did not fit into the device's memory."""

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames
        """Padded frames that a micro-batch might have; 0 where a single song did not fit."""


class Interrupted(BaseException):
    """A signal ended the job, and with it the multirun it belongs to. Exit code 128 + the signal's number."""

    def __init__(self, signum: int, then: str = "the same command goes on from the checkpoint") -> None:
        super().__init__(f"stopped by signal {signum}" + (f"; {then}" if then else ""))
        self.signum = signum


def nearest(name: str, valid: Iterable[str], count: int = 3) -> str:
    """The clause that ends a refusal: the valid names closest to `name`, or all of a short list."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=count, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    shown = ", ".join(valid[:12])
    return f"valid: {shown}{', ...' if len(valid) > 12 else ''}" if valid else "there is none to choose from"


def require(holds: bool, key: str, rule: str, value: object) -> None:
    """Refuse `value` for `key` unless the rule holds: `adapter.rank: must be at least 1, got 0`."""
    if not holds:
        raise Refused(f"{key}: must be {rule}, got {value!r}")
