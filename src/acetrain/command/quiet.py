"""Keeps what libraries say to each other, and no user can act on, out of a job's output."""

import logging
import warnings


def quiet() -> None:
    """Drop the messages known to mean nothing here; all others are shown. To be called before the libraries load."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # an optional kernel, used by none
    warnings.filterwarnings("ignore", message="`torch.nn.utils.weight_norm` is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
