"""Lyrics with times, as LRC files hold them."""

import re

_STAMP = r"\d{1,3}:\d{2}(?:[.:]\d{1,3})?"
_TIME = re.compile(r"\[(\d{1,3}):(\d{2})(?:[.:](\d{1,3}))?\]")
_OFFSET = re.compile(r"^\s*\[offset\s*:\s*([+-]?\d+)\s*\]\s*$", re.IGNORECASE | re.MULTILINE)
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
    return "\n".join(kept for kept, _ in _lines(text)).strip()


def times(text: str) -> tuple[float | None, ...]:
    """The second at which each line of `plain(text)` starts, None for lines without a time or with several.

    Empty where no line has one. An `[offset:ms]` header makes all lines earlier by that much.
    """
    offset = _OFFSET.search(text)
    early = int(offset[1]) / 1000 if offset else 0.0
    found = []
    for _, line in _lines(text):
        leading = _LEADING.match(line)
        stamps = _TIME.findall(leading[0]) if leading else []
        seconds = [60 * int(minutes) + int(whole) + float(f"0.{part or 0}") for minutes, whole, part in stamps]
        found.append(seconds[0] - early if len(seconds) == 1 else None)
    return tuple(found) if any(time is not None for time in found) else ()


def _lines(text: str) -> list[tuple[str, str]]:
    """The lines that are lyrics, without times, each with what it is made of."""
    lines: list[tuple[str, str]] = []
    for line in text.split("\n"):
        if _HEADER.fullmatch(line):
            continue
        kept = re.sub(r"[ \t]+", " ", _WITHIN.sub("", line)).strip()
        if kept or (lines and lines[-1][0]):
            lines.append((kept, line))
    return lines
