"""The optimizers of pytorch-optimizer, read from its source: importing it would import torch."""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "pytorch_optimizer"
CLASS = re.compile(r"^class (\w+)\(BaseOptimizer\)", re.MULTILINE)
TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
}


@dataclass(frozen=True)
class Described:
    """An optimizer's constructor, and what keeps the optimizer from training an adapter, empty for nothing."""

    arguments: Mapping[str, str]
    """Name -> type as written, without `self` and `params`."""
    required: tuple[str, ...]
    unfit: str
    averages: bool = False
    """Whether it can switch its weights to an average of its own."""

    def takes(self, argument: str, value: Any) -> bool:
        """Whether `value` may be of the type the argument is written to have; types beyond numbers and text are not
        judged."""
        kinds = [kind.strip() for kind in self.arguments[argument].split("|")]
        known = [kind for name in kinds for kind in TYPES.get(name, ())]
        if isinstance(value, bool):
            return bool in known or any(kind not in TYPES for kind in kinds)
        return isinstance(value, tuple(known)) or any(kind not in TYPES for kind in kinds)


@functools.cache
def files() -> Mapping[str, Path]:
    """Name of each optimizer -> the file it is written in. Empty where pytorch-optimizer is not installed."""
    spec = find_spec(PACKAGE)
    folders = [Path(folder) / "optimizer" for folder in (spec.submodule_search_locations or [])] if spec else []
    sources = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return {name: file for file in sources for name in CLASS.findall(file.read_text(encoding="utf-8"))}


def fit() -> list[str]:
    """Names of the optimizers that can train an adapter."""
    return [name for name in files() if not described(name).unfit]


@functools.cache
def described(name: str) -> Described:
    """The constructor of the optimizer `name`, one of `files()`."""
    source = files()[name].read_text(encoding="utf-8")
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    text = ast.get_source_segment(source, found) or ""
    constructor = next((node for node in _functions(found) if node.name == "__init__"), None)
    if constructor is None:
        return Described({}, (), "is a base of others")
    positional = constructor.args.args[1:]
    first = positional[0].arg if positional else ""
    rest = [argument for argument in [*positional, *constructor.args.kwonlyargs] if argument.arg != "params"]
    written = {argument.arg: ast.unparse(argument.annotation) if argument.annotation else "Any" for argument in rest}
    optional = len(constructor.args.defaults)
    required = tuple(argument.arg for argument in positional[: len(positional) - optional] if argument.arg != "params")
    averages = {"train", "eval"} <= {node.name for node in _functions(found)}
    return Described(written, required, _unfit(first, written, text), averages)


def _functions(owner: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (node for node in owner.body if isinstance(node, ast.FunctionDef))


def _unfit(first: str, arguments: Mapping[str, str], source: str) -> str:
    if first != "params" or "base_optimizer" in arguments:
        return (
            f"is built of more than weights: {', '.join(name for name in (first, *arguments) if name != 'params')[:40]}"
        )
    if "lr" not in arguments:
        return "has no learning rate that a schedule could scale"
    if "NoClosureError" in source:
        return "computes the loss again within a step"
    return "needs second derivatives" if "hutchinson" in source else ""
