"""Hydra's own launchers, `hydra/launcher=NAME`, for the jobs of a multirun."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hydra import compose
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from acetrain.command.outcome import Outcome, unexpected
from acetrain.composition.complaints import about_layers
from acetrain.composition.layers import opened
from acetrain.composition.overrides import literal, quoted

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun

_CELL = "acetrain_cell"
Ended = TypeVar("Ended")


def launch(
    multirun: "Multirun",
    indices: Sequence[int],
    launching: Sequence[str] = (),
    attempt: Callable[[int], Ended] | None = None,
) -> list[Ended | Outcome]:
    """Run these jobs through the launcher that `launching`, or what was typed, chooses and sets.

    `attempt` is what is done with each; the multirun's own attempt at a job where it is None.
    """
    ConfigStore.instance().store(name=_CELL, node={"index": 0})
    settings = {
        "hydra.sweep.dir": quoted(literal(str(multirun.planned[0].parent))),
        "hydra.sweep.subdir": ".",
        "hydra.output_subdir": "null",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
    }
    given = [*(f"{key}={value}" for key, value in settings.items()), *(launching or multirun.grid.launching)]
    sources = multirun.composer.sources
    with opened(sources) as first:
        try:
            config = compose(_CELL, [*first, *given], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise about_layers(error, sources, {}) from error
        launcher = Plugins.instance().instantiate_launcher(
            config=config,
            hydra_context=HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks()),
            task_function=partial(_attempt, attempt or multirun.attempt),
        )
        returned = launcher.launch([[f"index={index}"] for index in indices], 0)
    return [_ended(one, multirun.debug) for one in returned]


def _attempt(attempt: Callable[[int], Ended], config: DictConfig) -> Ended:
    return attempt(config["index"])


def _ended(returned: JobReturn, debug: bool) -> Any:
    """How a job ended. Hydra keeps an exception where the result would be, and its property raises it."""
    ended = returned._return_value
    if isinstance(ended, BrokenPipeError):
        raise ended
    return unexpected(ended, debug) if returned.status is JobStatus.FAILED else ended
