"""The types of a configuration's keys, read from its dataclasses, in words."""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Mapping
from enum import EnumType
from typing import Any


@functools.cache
def hints(owner: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, by name and in order."""
    annotations = typing.get_type_hints(owner)
    return {field.name: annotations[field.name] for field in dataclasses.fields(owner)}


def required(hint: Any) -> Any:
    """The type without its `None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return rest[0] if len(rest) == 1 else hint
    return hint


def optional(hint: Any) -> bool:
    """Whether null is a value of the type."""
    return types.NoneType in typing.get_args(hint)


def is_text(hint: Any) -> bool:
    """Whether values of the type are text, taken as typed."""
    return required(hint) is str


def named(hint: Any) -> str:
    """The type as a reader writes it: `int`, `auto|never`, `list[str]`, `int or null`."""
    bare = required(hint)
    if isinstance(bare, EnumType):
        name = "|".join(bare.__members__)
    elif typing.get_origin(bare):
        name = re.sub(r"\w+\.", "", str(bare))
    else:
        name = bare.__name__ if isinstance(bare, type) else str(bare)
    return f"{name} or null" if optional(hint) else name


def rule(hint: Any) -> str:
    """What a value of the type must be, to follow `must be`."""
    bare = required(hint)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if isinstance(bare, EnumType):
        words_of_type = f"one of {', '.join(bare.__members__)}"
    elif typing.get_origin(bare) is list:
        of = typing.get_args(bare)[0]
        mappings = typing.get_origin(of) is dict
        words_of_type = "a list of mappings like [{a: 1}]" if mappings else f"a list like [a,b] of {named(of)}"
    elif typing.get_origin(bare) is dict:
        words_of_type = "a mapping like {a: 1}"
    else:
        words_of_type = words.get(bare, f"a mapping of the keys of {named(bare)}")
    return f"{words_of_type}, or null" if optional(hint) else words_of_type
