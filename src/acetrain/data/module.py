"""The training songs as Lightning wants them."""

from collections.abc import Sequence
from typing import TypeVar

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from acetrain.data.batch import Batch
from acetrain.data.cache import Cache
from acetrain.data.index import CachedSong
from acetrain.data.loader import Steps, Unreadable, loader
from acetrain.data.option import Data
from acetrain.data.plan import Plan
from acetrain.errors import Failed
from acetrain.training.budget import Budget
from acetrain.training.module import FlowMatching

Item = TypeVar("Item")


class CachedSongs(LightningDataModule):
    """Every step of the run from where the module stands to the last, in one pass."""

    def __init__(
        self,
        cache: Cache,
        songs: Sequence[CachedSong],
        plan: Plan,
        budget: Budget,
        option: Data,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.cache, self.songs, self.plan, self.budget = cache, songs, plan, budget
        self.option, self.total_steps = option, total_steps

    def train_dataloader(self) -> DataLoader[list[Batch] | Unreadable]:
        """The steps this rank has still to do; the module is on its device and has taken up its checkpoint by now."""
        trainer = self.trainer
        assert trainer is not None
        module = trainer.lightning_module
        assert isinstance(module, FlowMatching)
        max_frames = self.budget.frames(module)
        rank, ranks, reduction = trainer.global_rank, trainer.world_size, module.recipe.loss.reduction
        steps = Steps(self.cache, self.songs, self.plan, max_frames, rank, ranks, reduction, self.option.cropped)
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return loader(steps, module.step, self.total_steps, self.option.workers, on_gpu)

    def on_before_batch_transfer(self, batch: list[Batch] | Unreadable, dataloader_idx: int) -> list[Batch]:
        """Raise Failed where the step's songs could not be read."""
        return readable(batch)


def readable(step: list[Item] | Unreadable) -> list[Item]:
    """A step of the loader. Raises Failed where its songs could not be read."""
    if isinstance(step, Unreadable):
        raise Failed(step.reason)
    return step
