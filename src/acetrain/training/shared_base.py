"""One loaded base for jobs that run one after another, or side by side, in a process."""

import copy
import gc
from collections.abc import Hashable, Sequence

import torch
from torch import nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import Base, load_base
from acetrain.acestep.model import Model
from acetrain.training.precision import Precision


def load_stored(model: Model, formats: Precision, device: torch.device) -> Base:
    """The frozen base on the CPU in settled formats, quantised where they say so; `device` does that work."""
    base = load_base(model, formats.base.dtype)
    formats.store(base.dit, device)
    return base


class SharedBase:
    """Keeps the base that was loaded last, and gives each job a copy of it that shares the memory of its weights.

    A copy is a job's own in all that training changes: modules, hooks, parameters. What is shared is the numbers of
    frozen weights, which nobody writes; a job that works on some (`Adapter.reads_base`) asks for those of its own.
    """

    def __init__(self) -> None:
        self._base: Base | None = None
        self._key: Hashable = None

    def take(
        self, model: Model, weights: str, formats: Precision, device: torch.device, own: Sequence[str] = ()
    ) -> Base:
        """A copy of the base, on the CPU; `weights` is the digest of its weights.

        The base is loaded if the one that is kept, which is then let go of first, differs in checkpoint, formats or
        the device that quantises it. The parameters of the modules `own` are in memory of their own.
        """
        key = (str(model.checkpoint.folder.resolve()), weights, formats.name, str(device))
        gc.collect()  # an ended job's modules refer to each other
        if self._base is None or self._key != key:
            self.clear()
            self._base, self._key = load_stored(model, formats, device), key
        kept = self._base
        dit = sharing(kept.dit)
        for parameter in (one for name in own for one in dit.get_submodule(name).parameters()):
            parameter.data = parameter.data.clone()
        return Base(dit, kept.null_condition.clone(), kept.silence.clone())

    def clear(self) -> None:
        """Let go of the base."""
        self._base, self._key = None, None


def sharing(dit: MaskedDiT) -> MaskedDiT:
    """A copy of a frozen DiT whose parameters are new but in the same memory; its buffers are the same."""
    memo: dict[int, object] = {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in dit.parameters()}
    memo |= {id(buffer): buffer for buffer in dit.buffers()}
    return copy.deepcopy(dit, memo)
