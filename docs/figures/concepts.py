"""Draw the figure of `docs/concepts.md`: `python docs/figures/concepts.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from acetrain.data.plan import Plan
from acetrain.flow.path import interpolate
from acetrain.keyed import seed_of

HERE = Path(__file__).parent
INK, DATA, NOISE, PAD = "#24303c", "#2f6f9f", "#c8553d", "#e3e6ea"
SECONDS = (64, 71, 88, 95, 120, 131, 150, 164, 182, 190, 214, 240)
"""Lengths of the songs of panel C."""


def path(axes: Axes) -> None:
    """A: points of the straight path from data to noise, and the velocity along it."""
    draw = torch.Generator().manual_seed(4)
    angle = torch.rand(40, generator=draw) * 6.283
    data = torch.stack([angle.cos() * 0.5 - 2.2, angle.sin() * 0.5], 1)
    noise = torch.randn(40, 2, generator=draw) * 0.75 + torch.tensor([2.2, 0.0])
    for t, shade in ((0.0, 1.0), (0.33, 0.55), (0.67, 0.55), (1.0, 1.0)):
        x = interpolate(data[:, None], noise[:, None], torch.full((40,), t))[:, 0]
        mix = [(1 - t) * a + t * b for a, b in zip(_rgb(DATA), _rgb(NOISE), strict=True)]
        axes.scatter(x[:, 0], x[:, 1], s=11, color=mix, alpha=shade, linewidths=0)
        axes.text(float(x[:, 0].mean()), -2.25, f"t = {t:g}", ha="center", color=INK, fontsize=8)
    for index in (3, 9, 17):
        arrow = FancyArrowPatch(data[index], noise[index], arrowstyle="->", mutation_scale=9, color=INK, lw=0.8)  # pyright: ignore[reportArgumentType]
        axes.add_patch(arrow)
    axes.text(-2.2, 1.5, "song $x_0$", ha="center", color=DATA)
    axes.text(2.2, 2.2, "noise $x_1$", ha="center", color=NOISE)
    axes.text(0, 1.15, "velocity $x_1 - x_0$", ha="center", color=INK, fontsize=8)
    axes.set(xlim=(-3.4, 4.4), ylim=(-2.6, 2.8))
    axes.axis("off")


def adapter(axes: Axes) -> None:
    """B: a frozen matrix and the product of two thin ones beside it."""
    boxes = [((0, 0), 4, 4, PAD, "W\nfrozen"), ((5.6, 0), 0.7, 4, NOISE, "B"), ((6.9, 3.3), 4, 0.7, DATA, "A")]
    for corner, width, height, colour, name in boxes:
        axes.add_patch(Rectangle(corner, width, height, color=colour))
        x, y = corner[0] + width / 2, corner[1] + height / 2
        axes.text(x, y, name, ha="center", va="center", color=INK if colour == PAD else "white")
    axes.text(4.8, 2, "+", ha="center", va="center", fontsize=16, color=INK)
    axes.text(5.95, -0.5, "rank", ha="center", color=INK, fontsize=8)
    axes.text(8.9, 2.6, "rank × inputs", ha="center", color=INK, fontsize=8)
    axes.text(8.9, 1.3, "times alpha / rank", ha="center", color=INK, fontsize=9)
    axes.text(2, -0.5, "outputs × inputs", ha="center", color=INK, fontsize=8)
    axes.set(xlim=(-0.3, 11.2), ylim=(-1, 4.6), aspect="equal")
    axes.axis("off")


def buckets(axes: Axes) -> None:
    """C: an epoch's steps as the plan makes them, above the same songs in random order."""
    frames = [second * 25 for second in SECONDS]
    plan = Plan(tuple(frames), songs_per_step=4, repeats=1, seed=0)
    steps = [[SECONDS[visit.song] for visit in step] for step in plan.epoch(0)]
    order = np.random.default_rng(1).permutation(SECONDS).reshape(-1, 4).tolist()
    for name, row, groups in (("steps of the plan", 1.25, steps), ("steps at random", 0.0, order)):
        padded = sum(4 * max(group) for group in groups)
        share = 1 - sum(map(sum, groups)) / padded
        axes.text(0, row + 1.05, f"{name}: {share:.0%} padding", color=INK, fontsize=8)
        for column, group in enumerate(groups):
            for line, seconds in enumerate(group):
                left, bottom = column * 275, row + line * 0.25
                axes.add_patch(Rectangle((left, bottom), max(group), 0.2, color=PAD))
                axes.add_patch(Rectangle((left, bottom), seconds, 0.2, color=DATA))
    axes.set(xlim=(-5, 3 * 275), ylim=(-0.1, 2.5))
    axes.axis("off")


def keys(axes: Axes) -> None:
    """D: keys, and the seeds of their generators."""
    rows = [
        (0, 0, "dawn.flac", 0, "t"),
        (0, 0, "dawn.flac", 0, "noise"),
        (0, 0, "dusk.flac", 0, "t"),
        (0, 1, "dawn.flac", 0, "t"),
    ]
    axes.text(0, 4.4, "(seed, epoch, song, repeat, purpose)", color=INK, fontsize=8)
    axes.text(8.2, 4.4, "seed of its generator", color=INK, fontsize=8)
    for line, key in enumerate(rows):
        y = 3.5 - line
        seed, epoch, song, repeat, purpose = key
        axes.text(0, y, f"({seed}, {epoch}, {song}, {repeat}, {purpose})", color=DATA, fontsize=8, family="monospace")
        axes.add_patch(FancyArrowPatch((6.9, y + 0.12), (8.0, y + 0.12), arrowstyle="->", mutation_scale=9, color=INK))
        axes.text(8.2, y, f"{seed_of(*key):x}", color=NOISE, fontsize=8, family="monospace")
    axes.set(xlim=(-0.2, 13.5), ylim=(0, 5))
    axes.axis("off")


def draw(file: Path) -> None:
    """Write the figure."""
    figure, panels = plt.subplots(2, 2, figsize=(9.6, 5.4), layout="constrained")
    titles = ("A  the path", "B  an adapter", "C  steps and padding", "D  keyed draws")
    for axes, title, panel in zip(panels.flat, titles, (path, adapter, buckets, keys), strict=True):
        panel(axes)
        axes.set_title(title, loc="left", color=INK, fontsize=10)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    draw(HERE / "concepts.png")
