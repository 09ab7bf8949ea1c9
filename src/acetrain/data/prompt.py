"""What the text side of a song says: caption, lyrics and metadata, checked field by field."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from acetrain.errors import Refused, require

INSTRUMENTAL = "[Instrumental]"
"""The lyrics of a song without any."""
NO_CAPTION = "no caption"
"""The fault of a song that has none."""
DEFAULT_LANGUAGE = "en"
"""Language where none is given, as in upstream's pipeline."""

_METERS = {"2/4": "2", "3/4": "3", "4/4": "4", "6/8": "6"}
_KEY = re.compile(r"([A-Ga-g])([#b♯♭]?)\s+(major|minor)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+([.,][0-9]*)?")
_LANGUAGE = re.compile(r"unknown|[a-z]{2,3}([-_][a-z]{2,4})?", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """Caption, lyrics and metadata of a song; what is unknown is None or empty and goes to the model as `N/A`."""

    caption: str
    lyrics: str
    bpm: int | None
    keyscale: str
    timesignature: str
    language: str

    def digest(self) -> str:
        """SHA-256 of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def text(key: str, value: object) -> str:
    """A string without blank ends."""
    require(isinstance(value, str), key, "text", value)
    return str(value).strip()


def lyrics(value: object) -> str:
    """Lyrics without blank ends; `[Instrumental]` in upstream's spelling."""
    given = text("lyrics", value)
    return INSTRUMENTAL if given.lower() == INSTRUMENTAL.lower() else given


def bpm(value: object) -> int:
    """Beats per minute, rounded; also from a number in text. Raises `Refused` outside 30 to 300."""
    number = value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = float(value.replace(",", "."))
    holds = isinstance(number, int | float) and not isinstance(number, bool) and 30 <= number <= 300
    require(holds, "bpm", "a number from 30 to 300", value)
    return round(cast(float, number))


def keyscale(value: object) -> str:
    """A key with ASCII accidentals, such as `F# minor`. Raises `Refused` for anything that is not a key."""
    match = _KEY.fullmatch(value.strip()) if isinstance(value, str) else None
    require(match is not None, "keyscale", "a key like 'C major', 'F# minor' or 'B♭ major'", value)
    note, accidental, mode = match.groups() if match else ("", "", "")
    return f"{note.upper()}{accidental.replace('♯', '#').replace('♭', 'b').replace('B', 'b')} {mode.lower()}"


def timesignature(value: object) -> str:
    """Beats of a bar: 2, 3, 4 or 6. Raises `Refused` for anything else."""
    given = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    meter = _METERS.get(given.strip(), given.strip()) if isinstance(given, str) else ""
    require(meter in _METERS.values(), "timesignature", "one of 2, 3, 4, 6", value)
    return meter


def language(value: object) -> str:
    """A language code in lower case. Raises `Refused` for anything that is not one."""
    given = value.strip() if isinstance(value, str) else ""
    require(_LANGUAGE.fullmatch(given) is not None, "language", "a code like en, ko or unknown", value)
    return given.lower()


Reader = Callable[[object], Any]
"""Takes a field's value as it was given. Raises `Refused` where it breaks the field's rule."""

FIELDS: dict[str, Reader] = {
    "caption": lambda value: text("caption", value),
    "lyrics": lyrics,
    "bpm": bpm,
    "keyscale": keyscale,
    "timesignature": timesignature,
    "language": language,
}
"""Every field of a prompt and what reads it."""


def read(given: Mapping[str, object], fields: Mapping[str, Reader]) -> tuple[dict[str, Any], list[str]]:
    """The values of the fields that are given, and what is wrong with the others.

    Fields that are absent, None, empty or `N/A` count as not given.
    """
    values: dict[str, Any] = {}
    faults = []
    for key, value in given.items():
        reader = fields.get(key)
        if not reader or value is None or (isinstance(value, str) and value.strip() in ("", "N/A")):
            continue
        try:
            values[key] = reader(value)
        except Refused as refusal:
            faults.append(str(refusal))
    return values, faults


def made_of(values: Mapping[str, Any]) -> Prompt:
    """A prompt of values that were read; one without a caption has an empty one."""
    return Prompt(
        caption=values.get("caption", ""),
        lyrics=values.get("lyrics", INSTRUMENTAL),
        bpm=values.get("bpm"),
        keyscale=values.get("keyscale", ""),
        timesignature=values.get("timesignature", ""),
        language=values.get("language", DEFAULT_LANGUAGE),
    )


def build(given: Mapping[str, object]) -> tuple[Prompt | None, list[str]]:
    """A prompt from the fields that are given, and what is wrong with them; no prompt where anything is."""
    values, faults = read(given, FIELDS)
    if "caption" not in values and not any(fault.startswith("caption:") for fault in faults):
        faults.insert(0, NO_CAPTION)
    return (None, faults) if faults else (made_of(values), [])
