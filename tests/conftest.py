"""What tests share. Array shapes are checked here and nowhere else: annotations cost nothing outside the tests."""

import gc
import json
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from tones import write_tone

install_import_hook("acetrain", "typechecks.typed")
gc.set_threshold(100_000, 50, 1000)  # looking through all that torch has made, again and again, is a tenth of the time

from acetrain.acestep.model import Tiny  # noqa: E402
from acetrain.training.precision import Format, Precision, Quantised  # noqa: E402

SONGS = {
    "a.wav": (1.5, 44100, 2, None),
    "a.mp3": (2.0, 44100, 1, None),
    "b.flac": (2.5, 48000, 2, None),
    "c.ogg": (1.2, 16000, 1, "VORBIS"),
    "sub/d e.opus": (3.1, 48000, 2, "OPUS"),
    "sub/é [x], y.wav": (2.0, 22050, 2, None),
}
"""Name -> seconds, rate, channels, subtype."""


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """The model option `tiny`."""
    return Tiny(variant="tiny", path="", steps=4, shift=1.0, guidance=1.0)


@pytest.fixture(scope="session")
def fp32() -> Precision:
    return Precision(Format.fp32, Format.fp32, Quantised.none)


@pytest.fixture(scope="session")
def pipeline(tiny):
    """The tiny pipeline; a test that changes it loads its own."""
    import torch

    from acetrain.acestep.load import load_pipeline

    return load_pipeline(tiny, torch.float32, "cpu")


@pytest.fixture(scope="session")
def songs_folder(tmp_path_factory) -> Path:
    """Six short songs in every container, with sidecars. Not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("songs")
    for name, shape in SONGS.items():
        write_tone(folder / name, *shape)
    (folder / "b.lyrics.txt").write_text("[verse]\n바다, 바다", encoding="utf-8")
    (folder / "b.json").write_text(
        json.dumps({"caption": "from json", "bpm": 97, "keyscale": "F♯ Minor", "timesignature": "3", "language": "KO"})
    )
    return folder


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory, songs_folder, tiny, fp32) -> Path:
    """The songs of `songs_folder`, encoded. Not to be changed: copy it."""
    from preprocessing import preprocess

    cache = tmp_path_factory.mktemp("cached") / "cache"
    job = preprocess(songs_folder, cache, tiny, fp32)
    job.check()
    job.run()
    return cache
