"""Hydra's part: option files laid over their schemas, found on the sources' search path."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from acetrain.composition import complaints
from acetrain.composition.sources import Sources
from acetrain.schemas import GROUPS, ROOTS

_ROOT = "acetrain_root"
"""The configuration that the asked one is part of: Hydra would look for a root in one folder only."""


@contextmanager
def opened(sources: Sources) -> Iterator[list[str]]:
    """Hydra on the sources' search path; yields the overrides that every composition there starts with."""
    _store_schemas()
    *users, packaged = sources.conf()
    with initialize_config_dir(str(packaged), version_base="1.3", job_name="acetrain"):
        search = GlobalHydra.instance().config_loader().get_search_path()
        for folder in reversed(users):
            search.prepend("user", f"file://{folder}", anchor="main")
        yield ["hydra.searchpath=[]"]  # has Hydra look at the search path again, which it read when it was opened


def layered(
    sources: Sources, config: str, overrides: Sequence[str], files: Mapping[str, Path] | None = None
) -> tuple[DictConfig, dict[str, Any]]:
    """The configuration `config` (`train`, `adapter/lora`), typed, and the choice made in each group.

    `files` are those that were asked for, by Hydra's names of them. Raises Refused for whatever is wrong with a file.
    """
    group, _, option = config.rpartition("/")
    entry = {group: option} if group else option
    ConfigStore.instance().store(name=_ROOT, node={"defaults": ["_self_", entry]})
    with opened(sources) as first:
        try:
            whole = compose(_ROOT, [*first, *overrides], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
            raise complaints.about_layers(error, sources, files or {}) from error
        choices = dict(whole.hydra.runtime.choices)
        with open_dict(whole):
            del whole["hydra"]
        return whole, choices


@functools.cache
def _store_schemas() -> None:
    """Have Hydra know the schemas; it keeps them as long as the process lives."""
    store = ConfigStore.instance()
    for job, schema in ROOTS.items():
        store.store(group="schema", name=job, node=schema, package="_global_")
    for group, schemas in GROUPS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
