"""TensorBoard's event files, without the steps that a restart repeats."""

from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib import image

from acetrain.tracking.logger import Ended

FOLDER = "tensorboard"


def start(folder: Path, step: int) -> TensorBoardLogger:
    """The event files of the run in `folder`; what they hold beyond `step`, from which the run goes on, is hidden."""
    print(f"tensorboard: tensorboard --logdir {folder / FOLDER}", flush=True)
    return TensorBoardLogger(folder, name="", version=FOLDER, purge_step=step + 1)


def finish(logger: TensorBoardLogger, ended: Ended) -> None:
    """Add what describes the whole run, and close the file."""
    edges = np.linspace(0, 1, len(ended.histogram) + 1)
    counts, middles = np.array(ended.histogram), (edges[:-1] + edges[1:]) / 2
    logger.experiment.add_histogram_raw(
        "timesteps",
        min=0.0,
        max=1.0,
        num=int(counts.sum()),
        sum=float((counts * middles).sum()),
        sum_squares=float((counts * middles**2).sum()),
        bucket_limits=edges[1:].tolist(),
        bucket_counts=counts.tolist(),
    )
    logger.experiment.add_image("plot", image.imread(ended.plot), dataformats="HWC")
    logger.finalize("success")
