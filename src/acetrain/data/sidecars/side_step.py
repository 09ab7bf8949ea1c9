"""Side-Step's `NAME.txt`: `key: value` lines, and the lyrics after `lyrics:`."""

import re

from acetrain.data.sample import OTHER_NAMES, refuse_misspelt, renamed

_LINE = re.compile(r"\s*(\w[\w ]*?)\s*:[ \t]*(.*)")
_NAMES = OTHER_NAMES | {"key": "keyscale", "signature": "timesignature"}


def is_side_step(text: str) -> bool:
    """Whether a text is of this form: it has a `caption:` line, before its lyrics if there are any."""
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        key = match[1].lower() if match else ""
        if key in ("caption", "lyrics"):
            return key == "caption"
    return False


def fields(text: str) -> dict[str, str]:
    """What each key says; a line without a key goes on with the value before it.

    Raises ValueError for a misspelt key; other unknown keys are left alone.
    """
    values: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):
        match = None if "lyrics" in values else _LINE.fullmatch(line)
        if match:
            current = values.setdefault(match[1].lower(), [])
            current.append(match[2])
        else:
            current.append(line)
    found = renamed({key: "\n".join(lines).strip() for key, lines in values.items()}, _NAMES)
    refuse_misspelt(found)
    return found
