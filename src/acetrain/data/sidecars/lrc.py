"""Lyrics with times, as LRC files hold them."""

import re

_STAMP = r"\d{1,3}:\d{2}(?:[.:]\d{1,3})?"
_LEADING = re.compile(rf"\s*(?:\[{_STAMP}\]\s*)+")
_WITHIN = re.compile(rf"<{_STAMP}>|\[{_STAMP}\]")
_HEADER = re.compile(
    r"\s*\[(?:ar|al|ti|au|lr|by|re|tool|ve|la|id|offset|length|encoding|hash|sign|qq|total|kana|#)\s*:.*\]\s*",
    re.IGNORECASE,
)
"""Headers by their known keys alone: `[Verse: whispered]` is lyrics."""


def is_timed(text: str) -> bool:
    """Whether any line starts with a time, `[mm:ss.xx]`."""
    return any(_LEADING.match(line) for line in text.split("\n"))


def plain(text: str) -> str:
    """The lyrics without times (several on a line and `<mm:ss.xx>` within it too) and headers such as `[ar:...]`.

    Structure tags such as `[Verse]` stay; a line with nothing but a time is blank, and blank lines are one at most.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if _HEADER.fullmatch(line):
            continue
        kept = re.sub(r"[ \t]+", " ", _WITHIN.sub("", line)).strip()
        if kept or (lines and lines[-1]):
            lines.append(kept)
    return "\n".join(lines).strip()
