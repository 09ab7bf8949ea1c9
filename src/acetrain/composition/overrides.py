"""`key=value`: the ways a value is written, and what it means for a key's type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as Parsed
from hydra.errors import HydraException, OverrideParseException

from acetrain.errors import Refused

FROM_FILE = ("prompt", "lyrics")
"""Text keys whose value may be `@FILE`."""


@dataclass(frozen=True)
class Override:
    """A key and a value still to be read. `value` raises Refused where it cannot be."""

    key: str

    def value(self, text: bool) -> Any:
        """The value, for a key whose type is text or is not."""
        raise NotImplementedError

    def written(self) -> str:
        """`key=value` as a reader knows it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Typed(Override):
    """Typed in a shell: text stands for itself, all else is Hydra's grammar."""

    raw: str

    def value(self, text: bool) -> Any:
        return _read(self.key, self.raw, literal) if text else parsed(self.written()).value()

    def written(self) -> str:
        return f"{self.key}={self.raw}"


@dataclass(frozen=True)
class Grammatical(Override):
    """One value of a multirun, written in Hydra's grammar whatever the key's type."""

    raw: str

    def value(self, text: bool) -> Any:
        value = parsed(self.written()).value()
        return _read(self.key, value) if text else value

    def written(self) -> str:
        return f"{self.key}={self.raw}"


@dataclass(frozen=True)
class Given(Override):
    """A value that is data already, such as an entry of a sweep's file."""

    data: Any

    def value(self, text: bool) -> Any:
        return _read(self.key, self.data) if text else self.data

    def written(self) -> str:
        return f"{self.key}={self.data}"


def read(argument: str) -> Typed:
    """An argument as key and value. Raises Refused unless it is `key=value`.

    A leading `+` or `++`, which Hydra has for adding keys, changes nothing: only keys that exist can be set.
    """
    key, equals, raw = argument.partition("=")
    if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
        raise Refused(f"{key}: must be UTF-8 text, got {raw!r}")
    if key.startswith("~"):
        raise Refused(f"{argument}: a key cannot be removed, every key has a value; give it another one")
    if not equals or not key.strip("+").strip():
        raise Refused(f"{argument!r}: must be key=value or a flag such as --help")
    return Typed(key.lstrip("+").strip(), raw)


def parsed(assignment: str, several: bool = False) -> Parsed:
    """`key=value` read by Hydra's grammar. Raises Refused for what it cannot read and for several values."""
    key, _, raw = assignment.partition("=")
    try:
        override = OverridesParser.create().parse_override(assignment)
    except (OverrideParseException, HydraException) as error:
        reason = (getattr(error, "message", None) or str(error)).splitlines()[0]
        raise Refused(
            f"{key}: {raw!r} cannot be read: {reason}\nquotes inside the argument keep it together: {key}='\"...\"'"
        ) from error
    if override.is_sweep_override() and not several:
        raise Refused(f"{key}: must be one value, got {raw!r}; -m runs a job for each of several")
    return override


def values(assignment: str, options: Sequence[str] = ()) -> list[str]:
    """Every value that `key=value` stands for in Hydra's sweep grammar, each written in that grammar.

    `options` is what `glob(...)` chooses from. Raises Refused for an empty or a continuous range.
    """
    override = parsed(assignment, several=True)
    key, _, raw = assignment.partition("=")
    if not override.is_sweep_override():
        return [raw]
    if not override.is_discrete_sweep():
        raise Refused(f"{key}: must be values to try, such as 1,2 or range(1,5), got {raw!r}")
    override.config_loader = _Options(options)  # pyright: ignore[reportAttributeAccessIssue]  (all a glob asks it for)
    found = list(override.sweep_string_iterator())
    if not found:
        raise Refused(f"{key}: must be at least one value, got {raw!r}")
    return found


@dataclass(frozen=True)
class _Options:
    names: Sequence[str]

    def get_group_options(self, group_name: str, results_filter: object = None) -> list[str]:
        return list(self.names)


def literal(text: str) -> str:
    """`text` such that a configuration reads back just that: without interpolation, a `${` being two characters."""
    head, *rest = text.split("${")
    pieces = [head]
    for piece in rest:
        backslashes = len(pieces[-1]) - len(pieces[-1].rstrip("\\"))
        pieces[-1] += "\\" * (backslashes + 1)
        pieces.append(piece)
    return "${".join(pieces)


def quoted(text: str) -> str:
    """`text` as a quoted value of Hydra's grammar."""
    pieces = text.split("'")
    for index, piece in enumerate(pieces):
        pieces[index] = piece + "\\" * (len(piece) - len(piece.rstrip("\\")))
    return "'" + "\\'".join(pieces) + "'"


def _read(key: str, value: Any, plain: Callable[[str], str] = str) -> Any:
    """The value of a text key: a file's content for `@FILE` where the key has such, else `plain(value)`."""
    if isinstance(value, str) and value.startswith("@") and key.rpartition(".")[2] in FROM_FILE:
        return literal(_content(key, value[1:]))
    return plain(value) if isinstance(value, str) else value


def _content(key: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refused(f"{key}: the file {name!r} cannot be read: {reason}") from error
