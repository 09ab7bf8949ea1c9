"""Which process of a run this is, before anything that knows it better is loaded."""

import os

PLACES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where torchrun, Lightning and SLURM say so."""


def follows() -> bool:
    """Whether rank 0 of the same run is another process, which makes the checks and keeps the records."""
    return any(int(os.environ.get(name) or 0) > 0 for name in PLACES)
