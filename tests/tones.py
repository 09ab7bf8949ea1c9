"""Short songs for tests that make their own."""

from pathlib import Path

import numpy as np
import soundfile


def write_tone(file: Path, seconds: float, rate: int = 16000, channels: int = 2, subtype: str | None = None) -> None:
    """A tone with a little noise, and a caption beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(len(file.name))
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (220 + 20 * len(file.name)) * time) + 0.02 * draw.standard_normal(len(time))
    form = "OGG" if file.suffix in (".ogg", ".opus") else None
    soundfile.write(file, np.repeat(tone[:, None], channels, axis=1), rate, format=form, subtype=subtype)
    file.with_name(file.stem + ".caption.txt").write_text(f"a tone called {file.stem}")
