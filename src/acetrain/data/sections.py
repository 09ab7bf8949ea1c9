"""Where in a song the sections of its lyrics are sung, and which of them a window of the song holds.

Sections begin at structure tags, `[Verse]` or `[Chorus]`. Lines with a known time (an `.lrc`'s) place them; between
such lines, or where there are none, a section takes its share of the song by its lines.
"""

import math
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

WORDLESS = 4
"""Lines that a section without words, an intro or a solo, counts as."""
_TAG = re.compile(r"\s*\[[^\[\]]+\]\s*")
_PART = re.compile(r"intro|verse|chorus|hook|refrain|bridge|solo|break|drop|build|inter|instrumental|outro|end", re.I)
"""What names a part of a song in a tag; others, `[female vocals]`, say more of one."""


def in_windows(
    lyrics: str, times: Sequence[float | None], frames: int, window: int, frame_rate: float
) -> list[tuple[int, str]]:
    """The lyrics of windows by their first frame: `(start, words)` holds from `start` to the next entry's.

    A window of `window` of the song's `frames` is told of a section if it holds half of it, or if the section fills
    half of the window, and of none that begins beyond the song's end. Lyrics with fewer than two sections are told
    whole. `times` are seconds, one for each line.
    """
    sections = split(lyrics)
    if len(sections) < 2:
        return [(0, lyrics)]
    bounds = place(sections, lyrics.split("\n"), times, frames, frame_rate)
    begun = sum(begin < frames for begin in bounds[:-1])
    found: list[tuple[int, str]] = []
    for start, first, last in held(bounds[: begun + 1], frames, window):
        words = "\n".join(lyrics.split("\n")[sections[first].start : sections[last].stop]).strip()
        if not found or found[-1][1] != words:
            found.append((start, words))
    return found


def split(lyrics: str) -> list[range]:
    """The lines of each section; a tag right below another begins one only if it names a part of a song."""
    lines = lyrics.split("\n")
    tags = [bool(_TAG.fullmatch(line)) for line in lines]
    above = [False, *tags]
    starts = [number for number, tag in enumerate(tags) if tag and (not above[number] or _PART.search(lines[number]))]
    if starts and any(line.strip() for line in lines[: starts[0]]):
        starts.insert(0, 0)
    return [range(start, stop) for start, stop in pairwise([*starts, len(lines)])]


def place(
    sections: Sequence[range], lines: Sequence[str], times: Sequence[float | None], frames: int, frame_rate: float
) -> list[int]:
    """The frames at which sections begin, and the song's end; times that do not ascend are left aside.

    So are times beyond the end that others within it follow. Sections at such times after all others begin at the end:
    the song was cropped before them.
    """
    sung = [sum(bool(lines[line].strip()) and not _TAG.fullmatch(lines[line]) for line in part) for part in sections]
    passed = [0, *accumulate(count or WORDLESS for count in sung)]
    known = _known(sections[1:], times, frame_rate)
    within = max((number for number, at in known if at < frames), default=0)
    anchors = [(0, 0.0)]
    for number, at in known:
        if anchors[-1][1] < at and (at < frames or number > within):
            anchors.append((number, at))
    anchors.append((len(sections), max(float(frames), anchors[-1][1])))
    bounds = [0]
    for (first, begin), (last, end) in pairwise(anchors):
        rate = (end - begin) / (passed[last] - passed[first])
        reached = [round(begin + rate * (passed[number] - passed[first])) for number in range(first + 1, last + 1)]
        bounds += [min(frames, bound) for bound in reached]
    return bounds


def _known(later: Sequence[range], times: Sequence[float | None], frame_rate: float) -> list[tuple[int, float]]:
    """Number and frame of the sections after the first whose time is known: that of their first line with one."""
    firsts = [
        next((times[line] for line in part if line < len(times) and times[line] is not None), None) for part in later
    ]
    return [(number, time * frame_rate) for number, time in enumerate(firsts, start=1) if time is not None]


def held(bounds: Sequence[int], frames: int, window: int) -> list[tuple[int, int, int]]:
    """From which first frame on a window holds which sections: `(start, first section, last section)`, ascending.

    Sections fill the song from bound to bound. One of them always fills half of the window or lies within it, so no
    window is without.
    """
    entered: list[int] = []
    left: list[int] = []
    for begin, end in pairwise(bounds):
        least = min(end - begin, window) / 2
        entered.append(math.ceil(begin + least - window))
        left.append(math.floor(end - least) + 1)
    found = []
    for start in sorted({0, *entered, *left}):
        if not 0 <= start <= frames - window:
            continue
        inside = [number for number in range(len(entered)) if entered[number] <= start < left[number]]
        found.append((start, inside[0], inside[-1]))
    return found
