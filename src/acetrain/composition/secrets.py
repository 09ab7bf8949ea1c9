"""Keeps what is secret in the environment out of configurations, and so out of every file and record of a run."""

import re
from collections.abc import Mapping
from typing import Any

from acetrain.errors import Refused

NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
"""How the name of a variable ends that holds a secret."""
UNWRITTEN = ("search.storage",)
"""Keys whose value, where it is a URL, is told without what is secret in it and written nowhere."""
SHORTEST = 8
"""Characters below which a value is no secret, or stands in texts by chance."""


def refuse_secrets(values: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Raise Refused for a value that holds a secret of the environment, as an interpolation or a shell put it there."""
    secrets = {name: value for name, value in environment.items() if NAMES.search(name) and len(value) >= SHORTEST}
    if secrets:
        _look(values, "", secrets)


def _look(value: Any, key: str, secrets: Mapping[str, str]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _look(name, key, secrets)
            _look(inner, f"{key}.{name}" if key else str(name), secrets)
    elif isinstance(value, list):
        for inner in value:
            _look(inner, key, secrets)
    elif isinstance(value, str) and not (key in UNWRITTEN and "://" in value):
        for name, secret in secrets.items():
            if secret in value:
                raise Refused(f"{key}: must not hold the value of {name}, it would stand in the files of the run")
