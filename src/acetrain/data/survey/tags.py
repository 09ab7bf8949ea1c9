"""Activation tags: the made-up word in every caption that calls the trained style."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from acetrain.data.prompt import Prompt

SHORTEST = 3
"""Characters of the shortest good tag."""

_WORDS = """
a ambient an band bass beat beats blues bright calm chill chiptune choir christmas classic classical country
cover dance dark deep demo disco dreamy drum drums edm electro electronic energetic epic fast female folk funk
gospel guitar happy hiphop house indie instrumental jazz jpop kpop latin lofi loud love male melodic metal mix
music my new none null old orchestra orchestral piano pop punk quiet rap reggae relaxing remix rnb rock sad
sample sing slow smooth soft song soul sound style synth synthwave tag techno test the track trance trap upbeat
vocal vocals voice warm white winter
"""
_COMMON = frozenset(_WORDS.split())
"""Words that the model knows already, or that stand for nothing."""


def complaints(tag: str, longest: int) -> Iterator[str]:
    """What is wrong with a tag; nothing for a good one, such as `myjazz` or `xmas24`."""
    if tag.lower() in _COMMON:
        yield "is a word the model knows already, so that it means other things as well"
    elif len(tag) < SHORTEST:
        yield f"has fewer than {SHORTEST} characters"
    if len(tag) > longest:
        yield f"has more than {longest} characters"
    if re.search(r"\s", tag):
        yield "has blanks in it, so that it is read as several words"
    if not all(character.isalnum() or character.isspace() for character in tag):
        yield "has characters other than letters and digits"
    if tag != tag.lower():
        yield "has capital letters"


def implied(prompts: Sequence[Prompt], share: float) -> str:
    """The made-up word that at least `share` of the captions start with, before a comma; empty where there is none."""
    firsts = Counter(prompt.caption.partition(",")[0].strip().lower() for prompt in prompts if "," in prompt.caption)
    if not firsts:
        return ""
    tag, count = firsts.most_common(1)[0]
    made_up = tag.isalnum() and tag not in _COMMON
    return tag if made_up and count >= max(2, share * len(prompts)) else ""


def held(tag: str, caption: str) -> bool:
    """Whether a caption holds a tag as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(tag)}(?!\w)", caption, re.IGNORECASE) is not None
