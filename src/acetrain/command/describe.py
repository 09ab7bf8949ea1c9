"""Pages of text on jobs, groups and options: what there is, its types, values and meaning."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from acetrain.command.histogram import Screen, plot
from acetrain.composition.docs import field_docs, summary
from acetrain.composition.job import Composed, Composer
from acetrain.composition.layers import layered
from acetrain.composition.recipes import opening
from acetrain.composition.sources import RECIPES, Sources
from acetrain.composition.types import hints, named
from acetrain.errors import Refused, nearest
from acetrain.flow.timesteps import Timesteps
from acetrain.schemas import GROUPS, JOBS, MULTIRUN, ROOTS


def anything(what: str, sources: Sources, screen: Screen | None = None) -> str:
    """The page on a group, an option (`adapter=lora`) or a job, or on all groups for an empty `what`.

    Densities of timesteps are plotted where there is a `screen`. Raises Refused for anything else, naming the nearest.
    """
    if not what:
        return overview(sources)
    group, _, option = what.partition("=")
    if group in GROUPS and option:
        return option_page(group, option, sources, screen)
    if group in GROUPS:
        return group_page(group, sources, screen)
    if group in RECIPES:
        return recipe_page(group, option, sources) if option else recipes_page(group, sources)
    if what in ROOTS:
        return job_page(Composer(what, sources).compose([]), sources)
    known = [*GROUPS, *RECIPES, *ROOTS]
    raise Refused(f"what: must be a group, an option (group=option) or a job, got {what!r}; {nearest(what, known)}")


def overview(sources: Sources) -> str:
    """Every group with its options, every job, and how to see more."""
    lines = ["groups", *table({group: " ".join(sources.options(group)) for group in GROUPS})]
    lines += ["", "files that change any key", *table({kind: " ".join(sources.recipes(kind)) for kind in RECIPES})]
    lines += ["", "jobs", *table({job: summary(schema) for job, schema in JOBS.items()})]
    lines += ["", "how several runs of a job are run", *table({MULTIRUN: summary(ROOTS[MULTIRUN])})]
    lines += ["", "acetrain explain GROUP, acetrain explain GROUP=OPTION or acetrain explain JOB says more"]
    return "\n".join(lines)


def group_page(group: str, sources: Sources, screen: Screen | None = None) -> str:
    """A group's options side by side, then each with its keys."""
    options = sources.options(group)
    nodes = {option: option_node(group, option, sources) for option in options}
    values = {option: " ".join(_set(node)) or "-" for option, node in nodes.items()}
    pages = [_page(group, option, options[option], node, screen) for option, node in nodes.items()]
    return "\n\n".join(["\n".join([f"options of {group}", *table(values)]), *pages])


def recipes_page(kind: str, sources: Sources) -> str:
    """What the first line of each experiment, preset or sweep says, and which wins where several are asked for."""
    lines = {name: opening(file).partition("\n")[0] for name, file in sources.recipes(kind).items()}
    order = "each is laid over those before it: " + ", ".join(RECIPES) + ", then what is given on the command line"
    return "\n".join([f"{RECIPES[kind]}/, chosen by {kind}=NAME", *table(lines), "", order])


def recipe_page(kind: str, name: str, sources: Sources) -> str:
    """What an experiment, a preset or a sweep says of itself, and the file."""
    file = sources.recipe(kind, name)
    text = file.read_text(encoding="utf-8")
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return "\n".join(
        [f"{kind}={name}", f"  {file}", textwrap.indent(opening(file), "  "), textwrap.indent(rest, "    ")]
    )


def _set(node: DictConfig) -> Iterator[str]:
    """The keys of an option that have a value, as `key=value`."""
    for name in map(str, node):
        if not _is_open(node, name) and (value := _value(node, name)) not in ('""', "{}"):
            yield f"{name}={value}"


def option_page(group: str, option: str, sources: Sources, screen: Screen | None = None) -> str:
    """An option's meaning, file, and keys; a density's plot where there is a `screen` and every key has its value."""
    options = sources.options(group)
    if option not in options:
        raise Refused(f"{group}: there is no option {option!r}; {nearest(option, options)}")
    return _page(group, option, options[option], option_node(group, option, sources), screen)


def option_node(group: str, option: str, sources: Sources) -> DictConfig:
    """The typed keys of an option as its file leaves them."""
    return layered(sources, f"{group}/{option}", [])[0][group]


def _page(group: str, option: str, file: Path, node: DictConfig, screen: Screen | None) -> str:
    schema = schema_of(node)
    lines = [f"{group}={option}: {summary(schema)}", f"  {file}", *_keys(node, f"{group}.")]
    if screen and issubclass(schema, Timesteps) and not any(_is_open(node, str(key)) for key in node):
        density = OmegaConf.to_object(node)
        assert isinstance(density, Timesteps)
        lines += plot(density, screen)
    return "\n".join(lines)


def schema_of(node: DictConfig) -> type:
    """The dataclass whose keys the node has."""
    schema = OmegaConf.get_type(node)
    assert isinstance(schema, type)
    return schema


def _is_open(node: DictConfig, key: str) -> bool:
    return OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key)


def job_page(composed: Composed, sources: Sources) -> str:
    """A job's groups with their options, and the keys of the job and of its current choices."""
    schema = ROOTS[composed.job]
    lines = [summary(schema), "", "keys (key=value)", *_keys(composed.config, "")]
    groups = {
        group: " ".join(f"{option}*" if option == composed.choices.get(group) else option for option in options)
        for group in hints(schema)
        if group in GROUPS and (options := sources.options(group))
    }
    if groups:
        lines += ["", "groups (group=option, * the current choice)", *table(groups)]
    if groups and (recipes := {group: " ".join(sources.recipes(group)) for group in RECIPES}):
        lines += ["", "files that change any key", *table(recipes)]
    for group, option in composed.choices.items():
        node = composed.config[group]
        lines += ["", f"{group}={option}: {summary(schema_of(node))}", *_keys(node, f"{group}.")]
    return "\n".join(lines)


def _keys(node: DictConfig, prefix: str) -> Iterator[str]:
    for name, kind, value, doc in keys(node):
        yield f"  {prefix}{name}: {kind}{f' = {value}' if value else ' (must be given)'}"
        yield from textwrap.wrap(doc, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def keys(node: DictConfig) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, value and meaning of each key that is no group; the value is empty where it must be given."""
    owner = schema_of(node)
    docs = field_docs(owner)
    for name, hint in hints(owner).items():
        if dataclasses.is_dataclass(hint) and name not in GROUPS:
            yield from ((f"{name}.{key}", kind, value, doc) for key, kind, value, doc in keys(node[name]))
        elif name not in GROUPS or owner not in ROOTS.values():
            yield name, named(hint), _value(node, name), docs.get(name, "")


def _value(node: DictConfig, name: str) -> str:
    if OmegaConf.is_missing(node, name):
        return ""
    value: Any = OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    assert isinstance(value, dict)
    return _shown(value[name])


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(_shown(item) for item in value)}]"
    return '""' if value == "" else str(value)


def table(rows: Mapping[str, str]) -> Iterator[str]:
    """Rows of two aligned columns."""
    width = max(map(len, rows))
    for name, text in rows.items():
        yield f"  {name:<{width}}  {text}"
