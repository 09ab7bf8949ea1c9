"""From the name of a job and the changes asked for to the typed job."""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from acetrain.composition import complaints, recipes
from acetrain.composition.docs import field_docs
from acetrain.composition.keys import assign
from acetrain.composition.layers import layered
from acetrain.composition.origins import Layer, located
from acetrain.composition.overrides import Override, Typed, quoted
from acetrain.composition.secrets import refuse_secrets
from acetrain.composition.sources import PACKAGED, RECIPES, Sources
from acetrain.composition.types import hints, rule
from acetrain.config import resolved
from acetrain.errors import Refused, nearest, require
from acetrain.schemas import GROUPS, ROOTS


@dataclass(frozen=True)
class Composed:
    """A job's configuration, every key typed, and the option chosen in each group."""

    job: str
    config: DictConfig
    choices: Mapping[str, str]
    layers: tuple[Layer, ...]
    """The files it was composed of, what lies on top first."""
    given: frozenset[str]
    """Keys that arguments set."""

    def build(self) -> Any:
        """The live job. Raises Refused where a value is missing, cannot be resolved, or breaks its dataclass's rule."""
        try:
            job = self._live()
            values = resolved(job)
            _refuse_nan(values, "")
            refuse_secrets(values, os.environ)
        except Refused as refusal:
            raise Refused(located(str(refusal), self.layers, self.given)) from refusal
        vars(job)["choices"] = dict(self.choices)
        return job

    def _live(self) -> Any:
        try:
            for key in sorted(OmegaConf.missing_keys(self.config)):
                raise Refused(self._wanted(key))
            return OmegaConf.to_object(self.config)
        except OmegaConfBaseException as error:
            raise Refused(complaints.about_value(error)) from error

    def _wanted(self, key: str) -> str:
        parent, _, name = key.rpartition(".")
        owner = OmegaConf.get_type(self.config, parent or None)
        hint = hints(owner)[name]
        if key in GROUPS:
            return f"{key}: an option must be chosen, such as {key}={next(iter(GROUPS[key]))}"
        return f"{key}: must be given, {rule(hint)}: {key}=...\n{field_docs(owner).get(name, '')}"


@dataclass
class Composer:
    """Composes configurations of one job; what they have in common is read once."""

    job: str
    sources: Sources
    _layered: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = field(default_factory=dict)

    def compose(self, overrides: Sequence[Override]) -> Composed:
        """The job's configuration with `overrides`, the last of a key winning.

        Raises Refused for unknown keys and options, values of the wrong type, and files that are not as they must be.
        """
        choices: dict[str, Override] = {group: Typed(group, name) for group, name in self._recipes.items() if name}
        choices |= {override.key: override for override in overrides if self.is_group(override.key)}
        files: dict[str, Path] = {}
        config, chosen = self._base(tuple(choices.values()), files)
        given = [override for override in overrides if override.key not in choices]
        for override in given:
            assign(config, override)
        layers = self._layers(chosen, files)
        return Composed(self.job, config, chosen, layers, frozenset(override.key for override in given))

    def is_group(self, key: str) -> bool:
        """Whether `key=NAME` chooses an option of this job, rather than giving a value."""
        return key in RECIPES or key in self.groups()

    def options(self, key: str) -> list[str]:
        """What `key=NAME` chooses from; nothing for a key that is no group."""
        if key in RECIPES:
            return list(self.sources.recipes(key))
        return list(self.sources.options(key)) if self.is_group(key) else []

    def groups(self) -> list[str]:
        """The groups that this job has a choice in."""
        return [name for name in hints(ROOTS[self.job]) if name in GROUPS]

    def _layers(self, chosen: Mapping[str, str], files: Mapping[str, Path]) -> tuple[Layer, ...]:
        order = list(RECIPES)[::-1]
        named = {name: name.partition("/")[0] for name in files}
        recipes = [("", files[name]) for kind in order for name in files if named[name] == kind]
        options = [(f"{group}.", self.sources.file(f"{group}/{option}")) for group, option in chosen.items()]
        root = self.sources.file(self.job)
        own = [("", root)] if root and not root.is_relative_to(PACKAGED) else []  # what the package says is not given
        return tuple((prefix, file) for prefix, file in (*recipes, *options, *own) if file)

    def _base(self, choices: tuple[Override, ...], files: dict[str, Path]) -> tuple[DictConfig, dict[str, str]]:
        choose = partial(self._choice, files=files)
        overrides = tuple(filter(None, map(choose, choices)))
        if overrides not in self._layered:
            self._layered[overrides] = layered(self.sources, self.job, overrides, files)
        config, chosen = self._layered[overrides]
        self._check_schemas(config, chosen)
        return copy.deepcopy(config), {group: chosen[group] for group in self.groups() if chosen.get(group)}

    def _choice(self, override: Override, files: dict[str, Path]) -> str:
        """The choice as Hydra reads it, empty for none, after a look at whether there is such an option."""
        group = override.key
        raw = override.raw if isinstance(override, Typed) else ""
        by_path = group in RECIPES and raw.endswith((".yaml", ".yml"))
        named: Any = raw if by_path else override.value(text=False)
        names: list[Any] = named if isinstance(named, list) and group == "experiment" else [named]
        if group in RECIPES:
            if group not in self._recipes:
                raise Refused(f"{group}: {self.job} has no {RECIPES[group]}/; its keys can be given one by one")
            if named in (None, ""):
                return f"~{group}" if self._recipes[group] else ""  # Hydra takes no null for a group
            if not all(isinstance(name, str) for name in names):
                raise Refused(f"{group}: must be a name, got {named!r}; {nearest('', self.sources.recipes(group))}")
            found = [recipes.store(self.sources, group, name) for name in names]
            for file in found:
                files.update(file)
            stored = [next(iter(file)).removeprefix(f"{group}/") for file in found]
            return f"{group}={quoted(stored[0])}" if len(stored) == 1 else f"{group}=[{','.join(map(quoted, stored))}]"
        options = self.sources.options(group)
        if not isinstance(named, str) or named not in options:
            raise Refused(f"{group}: there is no option {named!r}; {nearest(str(named), options)}")
        files[f"{group}/{named}"] = options[named]
        return f"{group}={quoted(named)}"

    @cached_property
    def _recipes(self) -> dict[str, str | None]:
        """The experiment, preset and sweep that the job's file starts from, where it has a place for them."""
        file = self.sources.file(self.job)
        defaults = complaints.loaded(file).get("defaults", []) if file else []
        entries = [entry for entry in defaults if isinstance(entry, Mapping)]
        return {group: entry[group] for entry in entries for group in RECIPES if group in entry}

    def _check_schemas(self, config: DictConfig, chosen: Mapping[str, Any]) -> None:
        """Refuse a job's or an option's file that names no schema and sets no key, so that nothing else tells."""
        if OmegaConf.get_type(config) is not ROOTS[self.job]:
            file = self.sources.file(self.job)
            raise Refused(
                f"{complaints.shown(file) if file else self.job}: must start with its schema, "
                f"the default `schema/{self.job}`"
            )
        for group in self.groups():
            if OmegaConf.is_missing(config, group):
                continue
            if OmegaConf.get_type(config, group) not in GROUPS[group].values():
                file = self.sources.file(f"{group}/{chosen[group]}")
                raise Refused(
                    f"{complaints.shown(file) if file else group}: must start with its schema, the default "
                    f"`/schema/{group}@_here_: NAME`, NAME being one of {', '.join(GROUPS[group])}"
                )


def _refuse_nan(values: Mapping[str, Any], prefix: str) -> None:
    """A number that compares false with every bound slips through rules."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            _refuse_nan(value, f"{prefix}{key}.")
        require(not (isinstance(value, float) and math.isnan(value)), f"{prefix}{key}", "a number", value)
