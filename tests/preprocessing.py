"""Preprocessing jobs as the command composes them without further arguments."""

from pathlib import Path
from typing import Any

from prompting import AS_WRITTEN

from acetrain.acestep.model import Tiny
from acetrain.jobs.preprocess import OnError, Preprocess
from acetrain.training.precision import Precision
from acetrain.training.trainer import Accelerator


def preprocess(songs: Path | str, cache: Path | str, model: Tiny, precision: Precision, **changes: Any) -> Preprocess:
    """A job on the CPU, other keys than the defaults in `changes`."""
    keys: dict[str, Any] = {
        "seed": 0,
        "max_duration": None,
        "crop_seconds": None,
        "loudness": None,
        "on_error": OnError.stop,
        "accelerator": Accelerator.cpu,
        "prompts": AS_WRITTEN,
    }
    return Preprocess(songs=str(songs), cache=str(cache), model=model, precision=precision, **keys | changes)
