"""Timestep densities as small plots of text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acetrain.flow.timesteps import Timesteps

ROWS = 5
"""Lines of a plot above its axis."""
WIDEST = 100
"""Columns a plot takes at most."""
GRID = 1 << 16
"""Quantiles a plot is counted from."""
INDENT = "      "


@dataclass(frozen=True)
class Screen:
    """What a plot is drawn on."""

    columns: int
    blocks: bool
    """Whether it shows Unicode's block elements; without, ASCII stands for them."""

    @property
    def ramp(self) -> str:
        """A cell's fillings, from empty to full."""
        return " ▁▂▃▄▅▆▇█" if self.blocks else " .:#"


def plot(timesteps: Timesteps, screen: Screen) -> Iterator[str]:
    """Lines that show the density over t, its mean and its outer twentieths, with what is left to the checkpoint as
    the diffusers layout has it."""
    import torch

    width = min(screen.columns, WIDEST) - len(INDENT) - 1
    t = timesteps.quantile((torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID)
    yield from (f"{INDENT}{line}".rstrip() for line in bars(torch.histc(t, width, 0.0, 1.0).tolist(), screen.ramp))
    yield INDENT + ("─" if screen.blocks else "-") * width
    middle = "t = 0.5"
    left = f"{'0 data':<{width // 2 - 3}}{middle}"
    yield f"{INDENT}{left}{'noise 1':>{width - len(left)}}"
    low, high = t[GRID // 20].item(), t[-GRID // 20].item()
    yield f"{INDENT}mean {t.mean().item():.3f}, 90 % of the draws from {low:.3f} to {high:.3f}"


def bars(counts: Sequence[float], ramp: str) -> Iterator[str]:
    """`ROWS` lines of bars, the largest count at full height."""
    full = len(ramp) - 1
    heights = [round(count / max(counts) * ROWS * full) for count in counts]
    for row in reversed(range(ROWS)):
        yield "".join(ramp[min(full, max(0, height - row * full))] for height in heights)
