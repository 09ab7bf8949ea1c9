"""How a song's caption is worded for training: its genre instead, and the activation tag."""

import re
from dataclasses import dataclass
from enum import Enum


class TagPosition(Enum):
    """Where the activation tag goes."""

    prepend = "prepend"
    append = "append"
    replace = "replace"


class Override(Enum):
    """What describes a song, whatever the genre ratio."""

    caption = "caption"
    genre = "genre"


@dataclass(frozen=True)
class Settings:
    """What a dataset.json says of all its songs; a folder says nothing."""

    name: str = ""
    tag: str = ""
    """Activation tag; empty for none."""
    tag_position: TagPosition = TagPosition.prepend
    genre_ratio: float = 0
    """Percentage of the visits of a song in which its genre takes the caption's place."""
    all_instrumental: bool = False
    """Whether lyrics are left out."""


def tagged(caption: str, tag: str, position: TagPosition) -> str:
    """The caption with the tag in its place; one that has it there already, set off by a comma, stays as it is."""
    if not tag:
        return caption
    if position is TagPosition.replace or not caption:
        return tag
    word = re.escape(tag)
    if position is TagPosition.prepend:
        return caption if re.match(rf"{word}\s*(,|$)", caption, re.IGNORECASE) else f"{tag}, {caption}"
    return caption if re.search(rf"(^|,)\s*{word}$", caption, re.IGNORECASE) else f"{caption}, {tag}"
