"""Signals that end a run after the step it is in, with its checkpoint written."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from acetrain.stopping import STOPPING, heed_once
from acetrain.training.module import FlowMatching


@contextmanager
def stopping(module: FlowMatching) -> Iterator[None]:
    """Within it, a stopping signal asks `module` to end; a second SIGINT ends it at once."""
    previous = {number: signal.getsignal(number) for number in STOPPING}

    def request(number: int, frame: FrameType | None) -> None:
        module.requested_stop = number
        message = f"{signal.Signals(number).name}: ending after this step, with a checkpoint\n"
        os.write(1, message.encode())  # print may be what the signal has interrupted
        heed_once()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in STOPPING:
        signal.signal(number, request)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
