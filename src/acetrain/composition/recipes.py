"""Experiments, presets and sweeps: files that change any key of a job, and the grid of a sweep."""

import itertools
import re
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from acetrain.composition import complaints
from acetrain.composition.overrides import Given
from acetrain.composition.sources import RECIPES, Sources
from acetrain.errors import Refused

STORED = "_stored"
"""Ends the name under which a recipe that lies in conf/ is stored: Hydra would find the file itself under its own, and
take its keys for those of a group."""

OF_SWEEPS = ("grid", "sweep", "search")
"""Keys of a sweep's file that are none of its job's."""


def store(sources: Sources, group: str, name: str) -> dict[str, Path]:
    """Make the recipe `group=name` known to Hydra, and those that its defaults list starts from.

    Returns Hydra's name of each, the asked one first, with its file. Raises Refused, naming the file.
    """
    file = sources.recipe(group, name)
    node = _loaded(group, file)
    known = name in sources.recipes(group)
    folder, _, stem = f"{group}/{name if known else re.sub(r'[^A-Za-z0-9]', '_', name)}".rpartition("/")
    ending = STORED if RECIPES[group].startswith("conf/") else ""
    files = {f"{folder}/{stem}{ending}": file}
    for place, entry in enumerate(node.get("defaults", [])):
        if isinstance(entry, str) and entry != "_self_":
            base = entry.removeprefix(f"/{group}/")
            if base == name:
                raise Refused(f"{complaints.shown(file)}: defaults: must not name the file itself")
            files |= store(sources, group, base)
            if entry != base:
                node["defaults"][place] = f"{entry}{ending}"
    ConfigStore.instance().store(group=folder, name=f"{stem}{ending}", node=node, package="_global_")
    return files


def grids(sources: Sources, name: str) -> list[dict[str, Any]]:
    """The grids of a sweep, mostly one: key -> list of values, or text in Hydra's sweep grammar; an empty one where it
    holds a search.

    Raises Refused, naming the file.
    """
    file = sources.recipe("sweep", name)
    node = complaints.loaded(file)
    if "search" in node:
        if "grid" in node:
            raise Refused(f"{complaints.shown(file)}: must hold either a grid or a search, it holds both")
        return [{}]
    cells = node.get("grid")
    plain = OmegaConf.to_container(cells, resolve=False) if OmegaConf.is_config(cells) else cells
    where = f"{complaints.shown(file)}: grid"
    found: list[dict[str, Any]] = []
    for one in plain if isinstance(plain, list) and plain else [plain]:
        if not isinstance(one, dict) or not one:
            raise Refused(
                f"{where}: must be a mapping of keys to lists of values, such as `adapter.rank: [8, 16]`, or a list of "
                f"such mappings, got {plain!r}"
            )
        for key, values in one.items():
            if not isinstance(values, list | str) or not values:
                raise Refused(f"{where}.{key}: must be a list of values, got {values!r}")
        found.append({str(key): values for key, values in one.items()})
    return found


def settings(sources: Sources, name: str) -> list[Given]:
    """What a sweep's file says of how it is run, as `sweep.KEY` and `search.KEY`. Raises Refused, naming the file."""
    file = sources.recipe("sweep", name)
    content = complaints.loaded(file)
    found: list[Given] = []
    for group, example in {"sweep": "pack: 4", "search": "trials: 32"}.items():
        node = content.get(group, OmegaConf.create())
        if not OmegaConf.is_dict(node):
            raise Refused(f"{complaints.shown(file)}: {group}: must be a mapping such as `{example}`, got {node!r}")
        plain = OmegaConf.to_container(node, resolve=False)
        assert isinstance(plain, dict)
        found += [Given(f"{group}.{key}", value) for key, value in plain.items()]
    if "search" in content and not content["search"].get("space"):
        where = f"{complaints.shown(file)}: search.space"
        raise Refused(
            f"{where}: must be a mapping of keys to ranges or choices, such as `adapter.rank: {{low: 4, high: 64}}`"
        )
    return found


def opening(file: Path) -> str:
    """The comment that a file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def _loaded(group: str, file: Path) -> DictConfig:
    node = complaints.loaded(file)
    if "hydra" in node:
        raise Refused(
            f"{complaints.shown(file)}: hydra: must not be set in {RECIPES[group]}/; give it on the command line"
        )
    if group == "sweep":
        for key in OF_SWEEPS:
            node.pop(key, None)
    return node
