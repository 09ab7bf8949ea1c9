"""The kinds of files that stand beside one song, and what each gives."""

import json
from collections.abc import Callable
from typing import Any

from acetrain.data.sample import OTHER_NAMES, TIMED, refuse_misspelt, renamed
from acetrain.data.sidecars import lrc, side_step


def caption(text: str) -> dict[str, Any]:
    """The text is the caption."""
    return {"caption": text}


def lyrics(text: str) -> dict[str, Any]:
    """The text is the lyrics."""
    return {"lyrics": text}


def timed_lyrics(text: str) -> dict[str, Any]:
    """The text is lyrics in LRC form."""
    return {"lyrics": lrc.plain(text), TIMED: text}


def lyrics_or_side_step(text: str) -> dict[str, Any]:
    """Side-Step's fields, or lyrics."""
    return side_step.fields(text) if side_step.is_side_step(text) else lyrics(text)


def json_fields(text: str) -> dict[str, Any]:
    """The fields of a JSON object, all optional. Raises ValueError where it is none, or where a key is misspelt."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    content = renamed(content, OTHER_NAMES)
    refuse_misspelt(content)
    return content


KINDS: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
    ("_prompt.txt", caption),
    ("_lyrics.txt", lyrics),
    (".lrc", timed_lyrics),
    (".txt", lyrics_or_side_step),
    (".caption.txt", caption),
    (".json", json_fields),
    (".lyrics.txt", lyrics),
)
"""What follows the song's name without its suffix, and what reads the text; where two give a field, the later counts.

`_prompt.txt` and `_lyrics.txt` are those of ACE-Step v1. A table of the folder (`tables.py`) counts over all of them.
"""
