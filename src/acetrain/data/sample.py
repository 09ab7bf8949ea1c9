"""What files say of a song: its prompt's fields, and how it is to be used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from acetrain.data import prompt
from acetrain.data.prompt import Reader, text
from acetrain.data.sidecars import lrc
from acetrain.data.wording import Override
from acetrain.errors import require

TIMED = "lyrics with times"
"""Key of the lyrics as an LRC file holds them; no file has it itself."""
_YES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass
class Sample:
    """What was read about one song."""

    values: dict[str, Any] = field(default_factory=dict)
    """Field -> value, by the readers of `FIELDS`; what is not given is absent."""
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    caption_at_fault: bool = False
    """Whether a caption may be in what could not be read."""
    times: tuple[float | None, ...] = ()
    """Second at which each line of the lyrics starts; empty where no line's is known."""

    def time_lyrics(self, given: Mapping[str, Any], lyrics: str) -> None:
        """Take the times of `given`, which has these lyrics; without any, those known of the same lyrics stay."""
        timed = given.get(TIMED, given.get("lyrics"))
        found = lrc.times(timed) if isinstance(timed, str) and prompt.lyrics(lrc.plain(timed)) == lyrics else ()
        if found or self.values.get("lyrics") != lyrics:
            self.times = found


def sung(value: object) -> str:
    """Lyrics as they are sung: without times, if any line starts with one."""
    given = prompt.lyrics(value)
    return prompt.lyrics(lrc.plain(given)) if lrc.is_timed(given) else given


def repeat(value: object) -> int:
    """Visits in an epoch. Raises `Refused` below 1."""
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    holds = isinstance(number, int) and not isinstance(number, bool) and number >= 1
    require(holds, "repeat", "a whole number, at least 1", value)
    return int(number) if isinstance(number, int) else 1


def yes_or_no(value: object) -> bool:
    """A truth value, or one of true, yes, 1, false, no, 0. Raises `Refused` for anything else."""
    found = value if isinstance(value, bool) else _YES.get(value.strip().lower()) if isinstance(value, str) else None
    require(found is not None, "is_instrumental", "true or false", value)
    return bool(found)


def override(value: object) -> Override:
    """What describes the song. Raises `Refused` unless it is caption or genre."""
    found = value.strip().lower() if isinstance(value, str) else ""
    require(found in Override.__members__, "prompt_override", "null, caption or genre", value)
    return Override[found]


FIELDS: Mapping[str, Reader] = MappingProxyType(
    prompt.FIELDS
    | {
        "lyrics": sung,
        "genre": lambda value: text("genre", value),
        "custom_tag": lambda value: text("custom_tag", value),
        "prompt_override": override,
        "repeat": repeat,
        "is_instrumental": yes_or_no,
    }
)
"""Every field that a file may give and what reads it."""

OTHER_NAMES = {"instrumental": "is_instrumental"}
"""Key of other tools -> the field it is, in any file."""


def renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`content` with keys under their fields' own names; a field that is there under its own name wins."""
    own = {key: names.get(key, key) for key in content}
    return {own[key]: value for key, value in content.items() if own[key] == key or own[key] not in content}


def refuse_misspelt(content: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown key that is all but a known one; other tools' keys are left alone."""
    for key in content:
        meant = _meant_by(key)
        if meant != key:
            raise ValueError(f"unknown key {key!r}; nearest: {meant}")


@lru_cache(maxsize=1024)
def _meant_by(key: str) -> str:
    """The field that a key is all but; the key itself where there is none."""
    return key if key in FIELDS else next(iter(get_close_matches(key, FIELDS, n=1, cutoff=0.8)), key)
