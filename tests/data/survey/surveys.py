"""Surveys made by hand: ten songs that follow every rule, and what changes them."""

from collections.abc import Callable
from dataclasses import replace

from acetrain.data.prompt import Prompt
from acetrain.data.survey.collect import Row, Survey
from acetrain.data.survey.measure import Measurement

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
    prompt = replace(GOOD_PROMPT, caption=f"myjazz24, song number {index}")
    return Row(f"{index:02d}.wav", prompt, replace(GOOD_AUDIO, sha256=str(index)), ())


def survey(count: int = 10, change: Callable[[Row], Row] | None = None, changed: int = 1, tag: str = "") -> Survey:
    """`count` good songs, of which `change` is made to the first `changed`."""
    rows = [row(index) for index in range(count)]
    return Survey([change(one) if change and index < changed else one for index, one in enumerate(rows)], tag=tag)


def audio(**values: object) -> Callable[[Row], Row]:
    """A change of a song's measurement."""
    return lambda one: replace(one, audio=replace(one.audio, **values))  # pyright: ignore[reportCallIssue, reportArgumentType]


def prompt(**values: object) -> Callable[[Row], Row]:
    """A change of a song's prompt."""
    return lambda one: replace(one, prompt=replace(one.prompt, **values))  # pyright: ignore[reportCallIssue, reportArgumentType]
