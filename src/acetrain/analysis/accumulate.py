"""What one unit of the work adds up for a module, on the device, in fp32."""

import torch
from jaxtyping import Float
from torch import Tensor

from acetrain.analysis.sizes import PROJECTED, is_exact, projected, sums
from acetrain.analysis.sketch import Signs

Outputs = Float[Tensor, "row output"]
Inputs = Float[Tensor, "row input"]

COLUMNS = 512
"""Columns that are made fp32 at once where a product adds up in fp32 but does not take other formats."""


class Sides:
    """The fixed matrices that gradients are multiplied with, once for all modules of a width."""

    def __init__(self, signs: Signs, device: torch.device, dtype: torch.dtype) -> None:
        self.signs, self.device, self.dtype = signs, device, dtype
        self.held: dict[tuple[str, int], Tensor] = {}

    def of(self, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What outputs [m, l' + p] and inputs [n, l + p] are multiplied with: the sketch's signs, if it is one, and the
        projection's."""
        if is_exact(shape, self.signs.sketch):
            left, right = self.signs.project(shape)
            return left.to(self.device), right.to(self.device)
        return self._wide("left", shape), self._wide("right", shape)

    def _wide(self, side: str, shape: tuple[int, int]) -> Tensor:
        index = 0 if side == "left" else 1
        width = shape[index]
        key = side, width
        if key not in self.held:
            own = self.signs.left(width) if side == "left" else self.signs.right(width)
            both = torch.cat([own, self.signs.project(shape)[index]], dim=1)
            self.held[key] = both.to(self.device, self.dtype)
        return self.held[key]


class Accumulator:
    """The sums of one module."""

    def __init__(self, shape: tuple[int, int], sides: Sides) -> None:
        sketch = sides.signs.sketch
        self.sketch = 0 if is_exact(shape, sketch) else sketch
        self.left, self.right = sides.of(shape)
        self.sums = {name: torch.zeros(size, device=sides.device) for name, size in sums(shape, sketch).items()}
        self.part = torch.zeros(projected(shape, sketch), device=sides.device)
        """Projection of the sum of gradients, or that sum itself; taken and set back group by group."""

    def clear(self) -> None:
        """Begin another unit."""
        for total in (self.part, *self.sums.values()):
            total.zero_()

    def add(self, dy: Outputs, x: Inputs, feature: Tensor, weight: float) -> None:
        """Add `weight` times the gradient dY' X of one visit, whose rows are frames."""
        square = self._sketched(dy, x, weight) if self.sketch else self._whole(dy, x, weight)
        self.sums["scalars"] += weight * torch.stack([square, square.sqrt(), feature])

    def _whole(self, dy: Outputs, x: Inputs, weight: float) -> Tensor:
        gradient = product(dy, x)
        self.sums["matrix"].add_(gradient, alpha=weight)
        kept = self.part.shape == gradient.shape
        self.part.add_(gradient if kept else self.left.T @ gradient @ self.right / PROJECTED, alpha=weight)
        return gradient.square().sum()

    def _sketched(self, dy: Outputs, x: Inputs, weight: float) -> Tensor:
        outputs, inputs = dy @ self.left, x @ self.right
        right = product(dy, inputs[:, : self.sketch])
        self.sums["right"].add_(right, alpha=weight)
        left = product(outputs[:, : self.sketch], x)
        self.sums["left"].add_(left, alpha=weight)
        part = product(outputs[:, self.sketch :], inputs[:, self.sketch :])
        self.part.add_(part, alpha=weight / PROJECTED)
        return (right.square().sum() + left.square().sum()) / (2 * self.sketch)


def product(a: Float[Tensor, "row i"], b: Float[Tensor, "row j"]) -> Float[Tensor, "i j"]:
    """A' B, added up in fp32 and given in it."""
    if a.dtype is torch.float32:
        return a.T @ b
    if a.device.type == "cuda":
        return torch.mm(a.T, b, out_dtype=torch.float32)
    if a.shape[1] < b.shape[1]:
        return product(b, a).T
    narrow = b.float()
    return torch.cat([wide.float().T @ narrow for wide in a.split(COLUMNS, dim=1)])
