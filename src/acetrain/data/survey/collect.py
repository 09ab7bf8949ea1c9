"""Every song of a scan with its text, its audio and its faults."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from acetrain.data.faults import Fault
from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.data.songs import Scan
from acetrain.data.survey.measure import Measurement, measure
from acetrain.errors import Refused

SHORTEST = 0.08
"""Seconds of two frames of ACE-Step's latents, one token of its DiT: the shortest song that can be encoded."""


@dataclass(frozen=True)
class Row:
    """A file that was found."""

    name: str
    prompt: Prompt | None
    """None where its text is at fault."""
    audio: Measurement | None
    """None where its audio is at fault."""
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Usable:
    """A song without a fault."""

    name: str
    prompt: Prompt
    audio: Measurement

    @property
    def sung(self) -> bool:
        """Whether it has lyrics."""
        return self.prompt.lyrics.strip().lower() != INSTRUMENTAL.lower()


@dataclass(frozen=True)
class Survey:
    """What was found, in order of name."""

    rows: Sequence[Row]
    warnings: Sequence[Fault] = ()
    tag: str = ""
    """The activation tag that training puts into captions; empty for none."""
    songs: list[Usable] = field(init=False, default_factory=list)
    """The rows without a fault."""

    def __post_init__(self) -> None:
        self.songs.extend(
            Usable(row.name, row.prompt, row.audio) for row in self.rows if row.prompt and row.audio and not row.faults
        )

    @property
    def faulty(self) -> list[Row]:
        """The rows with a fault."""
        return [row for row in self.rows if row.faults]

    @property
    def seconds(self) -> float:
        """Length of all songs without a fault."""
        return sum(song.audio.seconds for song in self.songs)


def survey(found: Scan, workers: int, advance: Callable[[], None], tag: str = "") -> Survey:
    """Decode every song of a scan once, `workers` at a time; `advance` is told of each."""
    prompts = {song.name: song.prompt for song in found.songs}
    files = [(song.name, song.audio) for song in found.songs] + found.unfit
    faults: dict[str, list[str]] = {name: [] for name, _ in files}
    for fault in found.faults:
        faults.setdefault(fault.file, []).append(fault.what)
    heard: dict[str, Measurement] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for (name, _), outcome in zip(files, pool.map(_measured, [file for _, file in files]), strict=True):
                if isinstance(outcome, Measurement):
                    heard[name] = outcome
                else:
                    faults[name].append(outcome)
                advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    rows = [Row(name, prompts.get(name), heard.get(name), tuple(faults[name])) for name in sorted(faults)]
    return Survey(rows, warnings=(), tag=tag)


def _measured(file: Path) -> Measurement | str:
    """A song's measurement, or why it cannot be used."""
    try:
        return measure(file, SHORTEST)
    except Refused as refusal:
        return str(refusal)
