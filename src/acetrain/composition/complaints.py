"""What Hydra, OmegaConf and YAML complain of, as one refusal: key or file, rule, value, and what is near."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from acetrain.composition.sources import Sources
from acetrain.composition.types import hints, rule
from acetrain.errors import Refused, nearest
from acetrain.schemas import GROUPS


def shown(file: Path) -> str:
    """A file as a reader finds it: below the working directory without it, else whole."""
    working = Path.cwd()
    return str(file.relative_to(working) if file.is_relative_to(working) else file)


def loaded(file: Path) -> DictConfig:
    """The mapping in a YAML file, not resolved. Raises Refused, naming the file and line."""
    try:
        node = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise Refused(f"{shown(file)}: {_unreadable(error)}") from error
    if not isinstance(node, DictConfig):
        raise Refused(f"{shown(file)}: must be a mapping of keys to values")
    return node


def about_layers(error: Exception, sources: Sources, files: Mapping[str, Path]) -> Refused:
    """The refusal for an error met while the files of a configuration were laid over each other.

    `files` are those asked for, by Hydra's names of them (`adapter/lora`, `experiment/short_run`).
    """
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return Refused(f"{_file_of(error, sources)}: {_unreadable(error)}")
    if isinstance(error, MissingConfigException):
        return _missing_option(error, sources, files)
    named = re.match(r"In '([^']+)'", str(error))
    file = named and (files.get(named[1]) or sources.file(named[1]))
    where = shown(file) if file else ", ".join(shown(one) for one in files.values())
    inner = next((one for one in _chain(error) if isinstance(one, OmegaConfBaseException)), None)
    what = about_value(inner) if inner else _about_defaults(str(error))
    return Refused(f"{where}: {what}" if where else what)


def about_value(error: OmegaConfBaseException, key: str = "", hint: Any = None, got: Any = None) -> str:
    """What is wrong with a key's value; `key`, its type `hint` and what it `got` where the error does not know them."""
    key = key or error.full_key or ""
    owner = error.object_type
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and owner is not None:
        return _unknown(key, owner)
    message = str(error).splitlines()[0]
    if about_class := _about_class(message):
        return about_class
    if message.endswith("is not Optional"):
        return f"{key}: must not be null"
    if hint is None and isinstance(owner, type) and isinstance(error.key, str):
        hint = hints(owner).get(error.key) if hasattr(owner, "__dataclass_fields__") else None
    if hint is None and (converted := re.search(r"could not be converted to (\w+)$", message)):
        hint = {"Float": float, "Integer": int, "Boolean": bool}.get(converted[1])  # an element of a mapping or a list
    value = re.match(r"Value '(.*)' of type|.*[Vv]alue: (.*)$|Invalid value '(.*)', expected", message)
    if value and got is None:
        got = next(group for group in value.groups() if group is not None)
    if got is not None and hint is not None:
        return f"{key}: must be {rule(hint)}, got {got!r}"
    return f"{key}: {message}" if key else message


def _unknown(key: str, owner: Any) -> str:
    if owner in _abstract():
        group = _abstract()[owner]
        schemas = ", ".join(GROUPS[group])
        return (
            f"{key}: {group} has no schema here; an option's file starts with one:\n"
            f"defaults: [/schema/{group}@_here_: NAME, _self_], NAME being one of {schemas}"
        )
    parent, _, name = key.rpartition(".")
    close = nearest(name, hints(owner) if hasattr(owner, "__dataclass_fields__") else ())
    return f"{key}: there is no such key{f' in {parent}' if parent else ''} ({owner.__name__}); {close}"


def _abstract() -> dict[type, str]:
    """The classes that options of a group derive from, which are no option themselves, and their group."""
    found: dict[type, str] = {}
    for group, schemas in GROUPS.items():
        for schema in schemas.values():
            found |= {base: group for base in schema.__mro__[1:-1] if base not in schemas.values()}
    return found


def _missing_option(error: MissingConfigException, sources: Sources, files: Mapping[str, Path]) -> Refused:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    asked = [shown(file) for file in files.values() if re.search(rf"\b{re.escape(option)}\b", file.read_text())]
    place = re.match(r"In '([^']+)'", str(error))
    file = sources.file(place[1]) if place else None
    source = f"{asked[0] if asked else shown(file) if file else ''}: ".removeprefix(": ")
    return Refused(f"{source}{group}: there is no option '{option}'; {nearest(option, error.options or ())}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _about_class(message: str) -> str:
    """The words for a group that was given something else than the keys of one of its options."""
    found = re.match(r".*: (\w+) is not a subclass of (\w+). value: (.*)", message)
    if not found:
        return ""
    given, wanted, value = found.groups()
    for group, schemas in GROUPS.items():
        family = {base.__name__ for schema in schemas.values() for base in schema.__mro__[:-1]}
        if wanted in family and given in _options():
            return f"{group}: must have a schema of its own group ({', '.join(schemas)}), got {given}"
        if wanted in family:
            return f"{group}: must be keys and values, got {value}; an option is chosen by `override /{group}: NAME`"
    return ""


def _options() -> set[str]:
    return {schema.__name__ for schemas in GROUPS.values() for schema in schemas.values()}


def _about_defaults(message: str) -> str:
    """What is wrong with a defaults list."""
    if unknown := re.search(r"Could not override '([^']+)'", message):
        return f"override /{unknown[1]}: there is no such group in this job; {nearest(unknown[1], GROUPS)}"
    if twice := re.search(r"schema/(\S+)@\S* appears more than once", message):
        return f"{twice[1]}: must be chosen once; `override /{twice[1]}: NAME` replaces the choice"
    return re.sub(r"^In '[^']+': ", "", message).splitlines()[0]


def _unreadable(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} is not YAML: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return "must be UTF-8 text"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error).splitlines()[0]


def _file_of(error: Exception, sources: Sources) -> str:
    """The file that could not be read; an error of the decoder does not name it."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return shown(Path(error.problem_mark.name))
    for folder in sources.conf():
        for file in sorted(folder.rglob("*.yaml")):
            try:
                file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return shown(file)
    return "conf"
