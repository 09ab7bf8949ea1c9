"""Captions that are lists of tags, `calm, piano, 90s`: other wordings of them say the same."""

import random
import re

from acetrain.data.wording import TagPosition, tagged
from acetrain.keyed import Key, seed_of

LONGEST_TAG = 5
"""Words of a tag; what has more between two commas is prose, which cannot be shuffled."""
_SENTENCE_END = re.compile(r"[.!?](\s|$)")


def tags_of(caption: str) -> list[str]:
    """The tags of a caption, without blanks around them; empty where it is prose."""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    prose = _SENTENCE_END.search(caption) or any(len(tag.split()) > LONGEST_TAG for tag in tags)
    return [] if prose else tags


def reworded(tags: list[str], shuffle: bool, dropout: float, *key: Key) -> str:
    """A caption of these tags as the key draws it: each left out with probability `dropout`, but for one, and in any
    order where `shuffle`."""
    draw = random.Random(seed_of(*key))
    kept = [tag for tag in tags if draw.random() >= dropout] or [draw.choice(tags)]
    if shuffle:
        draw.shuffle(kept)
    return ", ".join(kept)


def wordings(
    caption: str, tag: str, position: TagPosition, count: int, shuffle: bool, dropout: float, *key: Key
) -> tuple[str, ...]:
    """`count` other wordings of a caption, the activation tag in its place in each; none for prose or one tag."""
    tags = [one for one in tags_of(caption) if one.casefold() != tag.casefold()]
    if len(tags) < 2:
        return ()
    return tuple(
        tagged(reworded(tags, shuffle, dropout, *key, number), tag, position) for number in range(1, count + 1)
    )
