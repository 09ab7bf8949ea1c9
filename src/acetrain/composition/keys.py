"""Setting one key of a typed configuration."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from acetrain.composition import complaints
from acetrain.composition.overrides import Override
from acetrain.composition.types import hints, is_text
from acetrain.errors import Refused, nearest


def assign(config: DictConfig, override: Override) -> None:
    """Change one key of `config`. Raises Refused if there is no such key or the value is not of its type."""
    parent, _, name = override.key.rpartition(".")
    node = _descend(config, parent, override.key)
    hint = _hint(node, name, override.key)
    value = override.value(is_text(hint))
    try:
        OmegaConf.update(config, override.key, value, merge=True, force_add=isinstance(node, DictConfig))
    except OmegaConfBaseException as error:
        inner = error.full_key or override.key
        known = (hint, value) if inner == override.key else ()
        raise Refused(complaints.about_value(error, inner, *known)) from error


def _descend(config: DictConfig, path: str, key: str) -> DictConfig | ListConfig:
    node: Any = config
    done = ""
    for name in path.split(".") if path else []:
        _hint(node, name, key)
        node = node[int(name)] if isinstance(node, ListConfig) else node[name]
        done = f"{done}.{name}" if done else name
        if not isinstance(node, DictConfig | ListConfig):
            raise Refused(f"{key}: there is no such key; {done} is a value, not a group")
    return node


def _hint(node: DictConfig | ListConfig, name: str, key: str) -> Any:
    """The type of `node`'s key `name`. Raises Refused if there is none."""
    owner = OmegaConf.get_type(node)
    if isinstance(owner, type) and hasattr(owner, "__dataclass_fields__"):
        if name in hints(owner):
            return hints(owner)[name]
        parent = key.rpartition(".")[0]
        raise Refused(
            f"{key}: there is no such key{f' in {parent}' if parent else ''} ({owner.__name__}); "
            f"{nearest(name, hints(owner))}"
        )
    if isinstance(node, ListConfig) and not (name.isdecimal() and int(name) < len(node)):
        raise Refused(f"{key}: must be one of the list's {len(node)} positions, counted from 0, got {name!r}")
    return Any
