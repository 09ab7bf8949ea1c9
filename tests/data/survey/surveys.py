"""Surveys made by hand: ten songs that follow every rule, and what changes them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from acetrain.data.prompt import Prompt
from acetrain.data.songs import Song
from acetrain.data.survey.collect import Row, Survey
from acetrain.data.survey.measure import Measurement
from acetrain.data.wording import Settings

GOOD_PROMPT = Prompt("", "[Verse]\nla la", 100, "C major", "4", "en")
GOOD_AUDIO = Measurement(
    seconds=180.0,
    sample_rate=48000,
    channels=2,
    mono=False,
    peak=-1.0,
    clipped_peaks=0,
    loudness=-14.0,
    sha256="",
)


def row(index: int) -> Row:
    """A song that follows every rule."""
    name = f"{index:02d}.wav"
    song = Song(name, Path(name), replace(GOOD_PROMPT, caption=f"myjazz24, song number {index}"))
    return Row(name, song, replace(GOOD_AUDIO, sha256=str(index)), ())


def survey(
    count: int = 10, change: Callable[[Row], Row] | None = None, changed: int = 1, settings: Settings | None = None
) -> Survey:
    """`count` good songs, of which `change` is made to the first `changed`."""
    rows = [change(row(index)) if change and index < changed else row(index) for index in range(count)]
    return Survey(rows, settings=settings or Settings())


def audio(**values: object) -> Callable[[Row], Row]:
    """A change of a song's measurement."""
    return lambda one: replace(one, audio=replace(one.audio, **values))  # pyright: ignore[reportCallIssue, reportArgumentType]


def song(**values: object) -> Callable[[Row], Row]:
    """A change of how a song is used."""
    return lambda one: replace(one, song=replace(one.song, **values))  # pyright: ignore[reportCallIssue, reportArgumentType]


def prompt(**values: object) -> Callable[[Row], Row]:
    """A change of a song's prompt."""
    return lambda one: song(prompt=replace(one.song.prompt, **values))(one)  # pyright: ignore[reportArgumentType, reportOptionalMemberAccess]


def named(name: str) -> Callable[[Row], Row]:
    """A change of a song's name."""
    return lambda one: song(name=name)(replace(one, name=name))
