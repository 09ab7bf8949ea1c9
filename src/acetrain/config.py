"""A composed job as plain values, and as a file that composes it again."""

import dataclasses
from enum import Enum
from typing import Any

from omegaconf import OmegaConf

from acetrain.composition.overrides import literal


def resolved(job: Any) -> dict[str, Any]:
    """The values of every key of a job, in plain containers, an Enum by its name."""
    return {field.name: _plain(getattr(job, field.name)) for field in dataclasses.fields(job)}


def repeatable(job: Any) -> str:
    """YAML that repeats `job` as an experiment, `acetrain JOB experiment=FILE.yaml`: every choice and every value."""
    choices = getattr(job, "choices", {})
    defaults = [{f"override /{group}": option} for group, option in choices.items()]
    return OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **_escaped(resolved(job))}))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return resolved(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _escaped(value: Any) -> Any:
    """Text that holds a `${` is read back as it is."""
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value
