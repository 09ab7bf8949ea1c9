"""Sounds and pictures of a run for its trackers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib import image


def hand_over(loggers: Sequence[Logger], step: int, key: str, sound: Path, picture: Path) -> None:
    """Give a sound and its picture to the trackers that take such; TensorBoard plays one channel, the mean of all."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_audio(key, [str(sound)], step=step)
            logger.log_image(f"{key}/spectrogram", [str(picture)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            samples, rate = soundfile.read(sound, dtype="float32", always_2d=True)
            logger.experiment.add_audio(key, np.mean(samples, axis=1)[None], step, sample_rate=rate)
            logger.experiment.add_image(f"{key}/spectrogram", image.imread(picture), step, dataformats="HWC")


def show(loggers: Sequence[Logger], pictures: Mapping[str, Path]) -> None:
    """Give pictures, by name, to the trackers that take such."""
    for logger in loggers:
        for key, picture in pictures.items():
            if isinstance(logger, WandbLogger):
                logger.log_image(key, [str(picture)])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(key, image.imread(picture), 0, dataformats="HWC")
