"""Signals that ask a job to end."""

import signal

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""A person's, a system's, and the two with which schedulers warn of a limit or a preemption."""


def heed_once() -> None:
    """Ignore from now on what schedulers send twice, to the task and to its job; a person may still interrupt."""
    for number in STOPPING:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
