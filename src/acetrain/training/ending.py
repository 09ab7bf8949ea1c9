"""What may end a run before its last step."""

from collections.abc import Callable, Mapping

Judge = Callable[[int, Mapping[str, float]], bool]
"""Told a step and its held-out losses, by their columns; answers whether the run is to end there as hopeless."""
