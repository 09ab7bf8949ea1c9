"""What the tutorials warn of, as rules: each looks at a run and says a line, with the numbers behind it, or nothing."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from acetrain.training.optimizer import Moments, OptimizerOption
from acetrain.training.optimizers.eight_bit import Lion
from acetrain.training.optimizers.prodigy import Prodigy, ProdigyScheduleFree
from acetrain.training.optimizers.schedule_free import AdamWScheduleFree
from acetrain.training.schedule import Constant, CosineRestarts

if TYPE_CHECKING:
    from acetrain.jobs.train import Train

SHORT = 20
"""How many times shorter than the second moment's memory a run is before its rule speaks."""
RISEN = 5e-5
"""A d below this has not come near the 1e-4 that Prodigy settles at."""


def short_for_beta2(run: "Train") -> str | None:
    """The second moment must be able to settle within the run."""
    option, steps = run.optimizer, run.total_steps
    if not isinstance(option, Moments) or isinstance(option, Lion) or (1 - option.beta2) * steps * SHORT >= 1:
        return None
    memory = 1 / (1 - option.beta2)
    return (
        f"optimizer.beta2: {option.beta2} averages over about {memory:.0f} steps and the run has {steps}; "
        f"{max(0.0, 1 - 1 / steps):.3g} would suit it"
    )


def factor_of_d(run: "Train") -> str | None:
    """Prodigy finds its step size itself."""
    if not isinstance(run.optimizer, Prodigy) or run.optimizer.lr == 1:
        return None
    return f"optimizer.lr: Prodigy estimates its own step size, of which {run.optimizer.lr:g} is a factor; 1 is usual"


def warmup_of_d(run: "Train") -> str | None:
    """Prodigy's d rises from the gradients of the first steps; a warm-up hides them."""
    steps = run.schedule.warmup_steps(run.total_steps)
    if not isinstance(run.optimizer, Prodigy) or not steps:
        return None
    return f"schedule.warmup: Prodigy warms up by itself, and {steps} steps of warm-up keep its d low; 0 is usual"


def schedule_of_d(run: "Train") -> str | None:
    """Prodigy's d never falls: what comes back up comes back to a full step."""
    restarts = run.schedule.cycles - 1 if isinstance(run.schedule, CosineRestarts) else 0
    if not isinstance(run.optimizer, Prodigy) or not restarts:
        return None
    return f"schedule: Prodigy wants a constant or slowly falling one, and this one restarts {restarts} times"


def schedule_beside_averages(run: "Train") -> str | None:
    """Averaged weights stand in for a schedule."""
    averaging = isinstance(run.optimizer, ProdigyScheduleFree | AdamWScheduleFree)
    if not averaging or isinstance(run.schedule, Constant):
        return None
    option, schedule = type(run.optimizer).__name__, type(run.schedule).__name__
    return f"schedule: {option} averages in place of a schedule, and {schedule} falls beside it; constant is usual"


RULES: tuple[Callable[["Train"], str | None], ...] = (
    short_for_beta2,
    factor_of_d,
    warmup_of_d,
    schedule_of_d,
    schedule_beside_averages,
)
"""What a run is looked at for before it starts."""


def d_that_stays(option: OptimizerOption, step: int, figures: Mapping[str, float]) -> str | None:
    """Prodigy's d must have risen once its second moment has settled."""
    if not isinstance(option, Prodigy) or step != math.ceil(1 / (1 - option.beta2)) or figures["d"] >= RISEN:
        return None
    return (
        f"optimizer.d_coef: after {step} steps Prodigy's d is {figures['d']:.2g}, from {option.d0:.2g}; "
        "it should have come to about 1e-4: raise d_coef or d0"
    )


RULES_OF_STEPS: tuple[Callable[[OptimizerOption, int, Mapping[str, float]], str | None], ...] = (d_that_stays,)
"""What each step is looked at for: the option, steps done, and what the optimizer estimates."""


def before(run: "Train") -> list[str]:
    """What the rules say of a run that is to start."""
    return [line for rule in RULES if (line := rule(run))]


def after(option: OptimizerOption, step: int, figures: Mapping[str, float]) -> list[str]:
    """What the rules say after `step` steps."""
    return [line for rule in RULES_OF_STEPS if (line := rule(option, step, figures))]


def say(lines: list[str]) -> None:
    """Print advice, a line each, where it mixes with nothing that is read by programs."""
    for line in lines:
        print(f"advice: {line}", file=sys.stderr, flush=True)
