"""Every song of a scan with its text, its audio and its faults."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from acetrain.data.faults import Fault
from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.data.songs import Scan, Song
from acetrain.data.survey.measure import Measurement, measure
from acetrain.data.wording import Settings
from acetrain.errors import Refused

SHORTEST = 0.08
"""Seconds of two frames of ACE-Step's latents, one token of its DiT: the shortest song that can be encoded."""


@dataclass(frozen=True)
class Row:
    """A file that was found."""

    name: str
    song: Song | None
    """What its text says; None where that is at fault."""
    audio: Measurement | None
    """None where its audio is at fault."""
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Usable:
    """A song without a fault."""

    song: Song
    audio: Measurement

    @property
    def name(self) -> str:
        return self.song.name

    @property
    def prompt(self) -> Prompt:
        return self.song.prompt

    @property
    def sung(self) -> bool:
        """Whether it has lyrics."""
        return self.prompt.lyrics != INSTRUMENTAL


@dataclass(frozen=True)
class Survey:
    """What was found, in order of name."""

    rows: Sequence[Row]
    warnings: Sequence[Fault] = ()
    settings: Settings = field(default_factory=Settings)
    """How training words the songs: activation tag, genres."""
    songs: list[Usable] = field(init=False, default_factory=list)
    """The rows without a fault."""

    def __post_init__(self) -> None:
        self.songs.extend(Usable(row.song, row.audio) for row in self.rows if row.song and row.audio and not row.faults)

    @property
    def faulty(self) -> list[Row]:
        """The rows with a fault."""
        return [row for row in self.rows if row.faults]

    @property
    def seconds(self) -> float:
        """Length of all songs without a fault."""
        return sum(song.audio.seconds for song in self.songs)


def survey(found: Scan, crop: float | None, workers: int, advance: Callable[[], None]) -> Survey:
    """Decode every song of a scan once, up to `crop` seconds, `workers` at a time; `advance` is told of each."""
    songs = {song.name: song for song in found.songs}
    files = [(song.name, song.audio) for song in found.songs] + found.unfit
    faults: dict[str, list[str]] = {name: [] for name, _ in files}
    for fault in found.faults:
        faults.setdefault(fault.file, []).append(fault.what)
    heard: dict[str, Measurement] = {}
    for name, outcome in zip(
        (name for name, _ in files), _all_measured([file for _, file in files], crop, workers), strict=True
    ):
        if isinstance(outcome, Measurement):
            heard[name] = outcome
        else:
            faults[name].append(outcome)
        advance()
    rows = [Row(name, songs.get(name), heard.get(name), tuple(faults[name])) for name in sorted(faults)]
    return Survey(rows, sorted(found.warnings, key=lambda warning: warning.file), found.settings)


def _all_measured(files: Sequence[Path], crop: float | None, workers: int) -> Iterator[Measurement | str]:
    """What came of each file, in order; those that are not begun are left where the caller stops."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(lambda file: _measured(file, crop), files)
        finally:
            pool.shutdown(cancel_futures=True)


def _measured(file: Path, crop: float | None) -> Measurement | str:
    """A song's measurement, or why it cannot be used."""
    try:
        return measure(file, SHORTEST, crop)
    except Refused as refusal:
        return str(refusal)
