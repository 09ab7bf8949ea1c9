"""Compose short songs with captions, lyrics and metadata: data for a demonstration and for tests."""

from dataclasses import dataclass
from pathlib import Path

from acetrain.data.synthesis.names import MIX, NAMES, style_of
from acetrain.errors import Refused, nearest, require
from acetrain.writable import writable_folder


@dataclass
class Synthesize:
    """Compose short songs by rule, each with caption, lyrics and metadata beside it."""

    out_dir: str
    """Folder to write to; it must be empty or absent."""
    count: int
    """Number of songs, at least 1; song i is the same whatever the count."""
    style: str
    """Style of the songs: chiptune, piano, synthwave, ambient, marimba, or `mix` for each in turn."""
    min_seconds: float
    """Length of the shortest song in seconds, at least 4."""
    max_seconds: float
    """Length of the longest song in seconds, at most 60."""
    seed: int
    """What the songs follow from; the same seed gives the same files."""

    def __post_init__(self) -> None:
        require(bool(self.out_dir), "out_dir", "a folder to write the songs to", self.out_dir)
        require(self.count >= 1, "count", "at least 1", self.count)
        if self.style not in (MIX, *NAMES):
            raise Refused(f"style: '{self.style}' is no style; {nearest(self.style, (MIX, *NAMES))}")
        require(self.min_seconds >= 4, "min_seconds", "at least 4", self.min_seconds)
        require(
            self.min_seconds <= self.max_seconds <= 60,
            "max_seconds",
            f"from min_seconds ({self.min_seconds:g}) to 60",
            self.max_seconds,
        )

    def check(self) -> None:
        """Refuse a target that cannot be written to, or a folder with something in it."""
        folder = Path(self.out_dir)
        writable_folder("out_dir", folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise Refused(f"out_dir: {folder} is not empty; choose a new folder or empty it")

    def run(self) -> None:
        """Compose and write the songs one by one."""
        from rich.progress import track

        from acetrain.data.synthesis.files import write
        from acetrain.data.synthesis.song import compose

        folder = Path(self.out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for index in track(range(self.count), description="Composing"):
            song = compose(self.seed, style_of(self.style, index), index, self.min_seconds, self.max_seconds)
            write(song, index, folder)
