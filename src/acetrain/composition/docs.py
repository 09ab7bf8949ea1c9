"""What a dataclass says about itself: its docstring, and the one under each field."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping


def summary(owner: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(owner) or "").split("\n", 1)[0]


@functools.cache
def field_docs(owner: type) -> Mapping[str, str]:
    """Field -> docstring on one line, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if dataclasses.is_dataclass(base):
            found |= _own(base)
    return found


def _own(owner: type) -> Mapping[str, str]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(definition, ast.ClassDef)
    return dict(_pairs(definition.body))


def _pairs(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield statement.target.id, " ".join(str(following.value.value).split())
