"""Songs padded together: one micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acetrain.keyed import Key


@dataclass
class Batch:
    """Songs of one micro-batch, padded with zeros to the longest."""

    latents: Float[Tensor, "song frame channel"]
    condition: Float[Tensor, "song token width"]
    frames: tuple[int, ...]
    """Valid frames of each song."""
    tokens: tuple[int, ...]
    """Valid condition rows of each song."""
    keys: tuple[tuple[Key, ...], ...]
    """What each song's draws are keyed by: (seed, epoch, song, repeat)."""
    weight: float
    """One over what the step's songs count together (`Reduction.counts`); 0 in a batch that only keeps a rank in step
    with the others."""
    places: tuple[int, ...]
    """Each song's place in the run: how many visits of the plan come before this one."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            latents=self.latents.to(device, non_blocking=non_blocking),
            condition=self.condition.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory."""
        return replace(self, latents=self.latents.pin_memory(), condition=self.condition.pin_memory())


def collate(
    songs: Sequence[tuple[Float[Tensor, "_ channel"], Float[Tensor, "_ width"]]],
    keys: Sequence[tuple[Key, ...]],
    weight: float,
    places: Sequence[int] | None = None,
) -> Batch:
    """Pad (latents, condition) pairs into a batch; songs of no plan are counted from 0."""
    latents, conditions = zip(*songs, strict=True)
    return Batch(
        pad_sequence(list(latents), batch_first=True),
        pad_sequence(list(conditions), batch_first=True),
        tuple(map(len, latents)),
        tuple(map(len, conditions)),
        tuple(keys),
        weight,
        tuple(range(len(songs)) if places is None else places),
    )
