"""The command line as flags, a job, and the changes asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from acetrain.errors import Refused, nearest

FLAGS = {
    "--help": "what can be set, with the values it has now",
    "--version": "the version of acetrain",
    "--multirun": "run every combination of comma-separated values (-m)",
    "--config-dir": "a folder of further options (conf/, experiments/, sweeps/, or groups directly); may be repeated",
    "--cfg": "print the composed configuration instead of running",
    "--json": "print one JSON object instead of text: json=true, for jobs that have this key",
    "--debug": "show the trace of an error",
}
_SHORT = {"-h": "--help", "-m": "--multirun"}
_CHANGES = {"--json": "json=true"}
"""Flags that stand for a change."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    job: str
    """Empty where none was named."""
    flags: frozenset[str]
    config_dirs: tuple[str, ...]
    changes: tuple[str, ...]
    """Arguments as typed, `key=value` mostly."""
    given: tuple[str, ...] = ()
    """All arguments, as typed."""


def parse(arguments: Sequence[str]) -> Request:
    """The request in `arguments`. Raises Refused for an unknown flag or a flag without its value."""
    flags: set[str] = set()
    config_dirs: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        name = _SHORT.get(name, name)
        if name == "--config-dir":
            folder = value if equals else next(left, "")
            if not folder:
                raise Refused("--config-dir: must be followed by a folder")
            config_dirs.append(folder)
        elif argument.startswith("-"):
            if name not in FLAGS or equals:
                raise Refused(f"{argument}: there is no such flag; {nearest(name, FLAGS)}")
            flags.add(name)
        else:
            rest.append(argument)
    job = "" if not rest or "=" in rest[0] else rest.pop(0)
    meant = [change for flag, change in _CHANGES.items() if flag in flags]
    return Request(job, frozenset(flags), tuple(config_dirs), (*rest, *meant), tuple(arguments))
