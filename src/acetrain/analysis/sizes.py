"""How gradients are added up, and how much memory that takes; without torch, so that it is known before a run."""

import math

PROJECTED = 96
"""Width of the two-sided projection that inner products of parts of a half with the other are taken in, for intervals.
It widens them where the noise of gradients spreads over more than `PROJECTED`^2 directions."""
WHOLE = 1 << 17
"""Numbers up to which such a part is kept whole, where sums are."""
SCALARS = ("square", "norm", "feature")
"""Weighted sums over visits: |g|^2 and |g| of a visit's gradient g, and its normalised feature norm."""

Shape = tuple[int, int]
"""Outputs and inputs of a linear layer."""


def is_exact(shape: Shape, sketch: int) -> bool:
    """Whether the whole sum takes no more numbers than its sketch, or no sketch is wanted (0)."""
    outputs, inputs = shape
    return not sketch or outputs * inputs <= sketch * (outputs + inputs)


def projected(shape: Shape, sketch: int) -> Shape:
    """Shape of the projection of a gradient: itself where it is small and its sum is kept whole."""
    return shape if is_exact(shape, sketch) and math.prod(shape) <= WHOLE else (PROJECTED, PROJECTED)


def sums(shape: Shape, sketch: int) -> dict[str, tuple[int, ...]]:
    """The tensors that add up for a module [m, n] over all visits: the gradients or their sketch, and the scalars."""
    outputs, inputs = shape
    exact = {"matrix": (outputs, inputs)}
    sketched = {"right": (outputs, sketch), "left": (sketch, inputs)}
    parts = exact if is_exact(shape, sketch) else sketched
    return {**parts, "scalars": (len(SCALARS),)}


def numbers(shape: Shape, sketch: int, groups: int) -> int:
    """How many fp32 numbers a module takes on disk, with the projection of each group's part of its sum."""
    return sum(map(math.prod, sums(shape, sketch).values())) + groups * math.prod(projected(shape, sketch))
