"""What the tutorials warn of, as rules: each looks at a run and says a line, with the numbers behind it, or nothing."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.adapters.lora import LoRA
from acetrain.atomic import write_text
from acetrain.data.usual import usual_passes
from acetrain.training.ema import Ema
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
WEAKEST, STRONGEST = 1, 4
"""Strengths of a LoRA within a factor of two of the usual 2."""
LARGEST = 128
"""Rank that is enough for what is complex."""
DROPPED = 0.3
"""Share of dropped inputs that is far above the usual 0.1."""
YOUNG = 0.05
"""Share of its first weights that an average may keep."""
USUAL = ((20e9, 1), (32e9, 2), (60e9, 4))
"""Below how many bytes of a card -> songs of a micro-batch: 1 on 12 and 16 GB, 2 on 24 GB, 4 on 40 GB."""
FILE = "advice.txt"


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


def passes_over_songs(run: "Train") -> str | None:
    """Few songs take more passes than many. Steps that are counted one by one may be meant to be few."""
    songs, plan = len(run.split[0]), run.plan
    passes = run.total_steps / plan.steps_per_epoch * sum(plan.visits_per_epoch) / songs
    least, most = usual_passes(songs)
    if passes <= most and (passes >= least or run.max_steps is not None):
        return None
    key = "max_epochs" if run.max_steps is None else "max_steps"
    told = f"{run.total_steps} steps are {passes:.4g} passes over {songs} songs"
    return f"{key}: {told}; {least} to {most} are usual for so many"


def measured_elsewhere(run: "Train") -> str | None:
    """Sensitivities are those of a model on a data set."""
    found = run.measured_elsewhere
    return f"targets.force: the report was measured on {found}, and is taken all the same" if found else None


def strength_of_lora(run: "Train") -> str | None:
    """LoRA's alpha is usually twice its rank."""
    adapter = run.adapter
    if not isinstance(adapter, LoRA) or adapter.power != 1 or WEAKEST <= adapter.alpha / adapter.rank <= STRONGEST:
        return None
    return (
        f"adapter.alpha: {adapter.alpha:g} at rank {adapter.rank} is a strength of {adapter.alpha / adapter.rank:.3g}; "
        f"{2 * adapter.rank}, twice the rank, is usual"
    )


def size_of_rank(run: "Train") -> str | None:
    """The largest rank the tutorials use."""
    adapter = run.adapter
    if not isinstance(adapter, LoRA) or adapter.rank <= LARGEST:
        return None
    return f"adapter.rank: {adapter.rank} is more than the {LARGEST} for what is complex; 64 serve a genre, 32 a timbre"


def much_dropout(run: "Train") -> str | None:
    """The dropout of the tutorials is a tenth."""
    adapter = run.adapter
    if not isinstance(adapter, LoRA) or adapter.dropout <= DROPPED:
        return None
    return f"adapter.dropout: {adapter.dropout:g} of the inputs are dropped; 0.1 is usual"


def young_average(run: "Train") -> str | None:
    """An average must have left its start behind at the end of the run."""
    share = run.ema.untrained(run.total_steps)
    if not isinstance(run.ema, Ema) or share <= YOUNG:
        return None
    return (
        f"ema.decay: after {run.total_steps} steps the average is still {share:.0%} of what it began with at a decay "
        f"of {run.ema.decay:g}, a warm-up of {run.ema.warmup:g} and a start at {run.ema.start}; ema.warmup=10 is usual"
    )


RULES: tuple[Callable[["Train"], str | None], ...] = (
    short_for_beta2,
    factor_of_d,
    warmup_of_d,
    schedule_of_d,
    schedule_beside_averages,
    passes_over_songs,
    measured_elsewhere,
    strength_of_lora,
    size_of_rank,
    much_dropout,
    young_average,
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


def batch_on_card(songs: int, card: tuple[str, int], max_frames: str) -> str | None:
    """A micro-batch of so many of the longest songs on a card of this name and of so many bytes."""
    name, memory = card
    usual = next((most for below, most in USUAL if memory < below), songs)
    if songs <= usual:
        return None
    return (
        f"data.max_frames: {max_frames} frames hold {songs} of the longest songs; {usual} is usual on a card of "
        f"{memory / 2**30:.0f} GiB ({name}), and data.max_frames=auto finds what fits"
    )


def noted(folder: Path, lines: list[str]) -> list[str]:
    """Add lines to the advice in a run's folder; those that were not there yet."""
    file = folder / FILE
    known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    new = [line for line in lines if line not in known]
    if new:
        write_text(file, "\n".join([*known, *new]) + "\n")
    return new


def say(lines: list[str]) -> None:
    """Print advice, a line each, where it mixes with nothing that is read by programs."""
    for line in lines:
        print(f"advice: {line}", file=sys.stderr, flush=True)
