"""How gradients are added up, and how much memory that takes; without torch, so that it is known before a run."""

import math

PROJECTED = 64
"""Width of the two-sided projection that inner products between parts of a half are taken in."""
SCALARS = ("square", "norm", "feature")
"""Weighted sums over visits: |g|^2 and |g| of a visit's gradient g, and its normalised feature norm."""

Shape = tuple[int, int]
"""Outputs and inputs of a linear layer."""


def left_width(sketch: int) -> int:
    """l' of l: rows of Psi' G beside columns of G Omega."""
    return sketch + sketch // 2


def is_exact(shape: Shape, sketch: int) -> bool:
    """Whether the whole sum takes no more numbers than its sketch, or no sketch is wanted (0)."""
    outputs, inputs = shape
    return not sketch or outputs * inputs <= sketch * outputs + left_width(sketch) * inputs


def projected(shape: Shape) -> Shape:
    """Shape of the projection of a gradient: itself where it has no more numbers than that."""
    return shape if shape[0] * shape[1] <= PROJECTED**2 else (PROJECTED, PROJECTED)


def shapes(shape: Shape, sketch: int, groups: int) -> dict[str, tuple[int, ...]]:
    """The tensors that add up for a module [m, n]: the sum of gradients or its sketch, the projection of each group's
    part of it, and the scalars."""
    outputs, inputs = shape
    exact = {"matrix": (outputs, inputs)}
    sketched = {"right": (outputs, sketch), "left": (left_width(sketch), inputs)}
    parts = exact if is_exact(shape, sketch) else sketched
    return {**parts, "groups": (groups, *projected(shape)), "scalars": (len(SCALARS),)}


def numbers(shape: Shape, sketch: int, groups: int) -> int:
    """How many fp32 numbers a module takes."""
    return sum(math.prod(size) for size in shapes(shape, sketch, groups).values())
