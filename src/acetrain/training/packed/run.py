"""Which trainings go side by side, and how they are carried out."""

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from acetrain.data.loader import Steps, Unreadable
from acetrain.data.module import readable
from acetrain.errors import Failed, Interrupted, Refused
from acetrain.training import fitting
from acetrain.training.budget import card_of
from acetrain.training.callbacks import Keeper
from acetrain.training.module import FlowMatching
from acetrain.training.packed.batches import StepsTogether, Together
from acetrain.training.packed.keepers import Keepers
from acetrain.training.packed.lanes import move_together
from acetrain.training.packed.module import Pack
from acetrain.training.shared_base import SharedBase
from acetrain.training.trainer import Compile

if TYPE_CHECKING:
    from acetrain.jobs.train import Train

Part = tuple["Train", FlowMatching, Keeper]
Ended = Failed | Refused | Interrupted | None
"""How a training ended: None where it is done."""


def why_alone(run: "Train") -> str:
    """What keeps a training from going side by side with others; empty for nothing."""
    trainer = run.trainer
    if trainer.devices * trainer.nodes > 1:
        return "it takes several processes (trainer.devices, trainer.nodes)"
    if trainer.compile is Compile.block:
        return "its blocks are compiled (trainer.compile=block)"
    if run.sized.beyond_layers:
        return f"{run.sized.reads_base} changes more than linear layers (adapter.everything)"
    if run.sized.drops:
        return f"its adapter drops at random ({run.sized.drops}), which is drawn by step and not by song"
    if run.logger.side_by_side() is None:
        return "its tracker must be online (logger.mode=online); auto keeps packed runs for acetrain sync"
    if run.data.budget is None and card_of(trainer.device) is not None:
        return "what the GPU holds is found for a single training (data.max_frames=auto); give a number"
    return ""


def packs(runs: Sequence["Train"], size: int) -> list[list[int]]:
    """The trainings by position, those that go side by side in one list, at most `size` of them.

    These have the base, how it is stored and computed, the frame budget and the loader in common; all else may differ.
    """
    found: list[list[int]] = []
    open_packs: dict[Hashable, list[int]] = {}
    for index, run in enumerate(runs):
        key = index if why_alone(run) else _common(run)
        if key not in open_packs or len(open_packs[key]) >= size:
            open_packs[key] = []
            found.append(open_packs[key])
        open_packs[key].append(index)
    return found


def _common(run: "Train") -> Hashable:
    base = str(run.model.checkpoint.folder.resolve()), run.weights, run.formats.name, str(run.trainer.device)
    return *base, run.trainer.recomputed, run.data.budget, run.data.workers


def train_together(runs: Sequence["Train"], bases: SharedBase) -> list[Ended]:
    """Train runs of one pack, each into its own folder, and tell how each ended; one that fails stops no other.

    Raises OutOfMemory where the memory does not hold them side by side; each then stands at its last checkpoint.
    """
    ended: dict[int, Ended] = {}
    parts: dict[int, Part] = {}
    with ExitStack() as held:
        for index in sorted(range(len(runs)), key=lambda index: str(runs[index].folder.path)):
            try:
                begun = _begun(runs[index], bases, held)
            except (Failed, Refused) as failure:
                ended[index] = failure
                continue
            if begun is None:
                ended[index] = None
            else:
                parts[index] = (runs[index], *begun)
        order = sorted(parts)
        if order:
            ended |= dict(zip(order, _fit([parts[index] for index in order], bases), strict=True))
    return [ended[index] for index in range(len(runs))]


def _begun(run: "Train", bases: SharedBase, held: ExitStack) -> tuple[FlowMatching, Keeper] | None:
    run.ready()
    held.enter_context(run.folder.held())  # packs take their folders in one order, so that none waits for another
    return run.begin(bases)


def _fit(parts: Sequence[Part], bases: SharedBase) -> list[Ended]:
    first, module, keeper = parts[0]
    keepers = [keeper for _, _, keeper in parts]
    for run, _, own in parts:
        own.label = run.folder.path.name
    dit = bases.take(first.model, first.weights, first.formats, first.trainer.device).dit
    pack = Pack(dit, [module for _, module, _ in parts]).train()
    dit.recompute(first.trainer.recomputed)
    move_together([pack], first.trainer.device)
    budget = keeper.validation.budget
    with ExitStack() as stack:
        trackers = [run.logger.side_by_side() or run.logger for run, _, _ in parts]
        loggers = [
            stack.enter_context(fitting.tracked(*part, option)) for part, option in zip(parts, trackers, strict=True)
        ]
        callback = Keepers(pack, keepers, loggers)
        trainer = first.trainer.build(first.formats, [], callback, first.folder.path)
        with fitting.within_memory(module, budget):
            trainer.fit(pack, SongsTogether([run for run, _, _ in parts], budget.frames(module)))
    return [_end(part, pack.ended.get(number)) for number, part in enumerate(parts)]


def _end(part: Part, failure: Failed | None) -> Ended:
    run, module, keeper = part
    if failure is not None:
        return failure
    try:
        run.end(module, keeper)
    except Interrupted as interruption:
        return interruption
    return None


class SongsTogether(LightningDataModule):
    """The steps that the lanes of a pack have still to do."""

    def __init__(self, runs: Sequence["Train"], max_frames: int) -> None:
        super().__init__()
        self.runs, self.max_frames = runs, max_frames

    def train_dataloader(self) -> DataLoader[list[Together] | Unreadable]:
        """From where each lane stands; all have taken up their checkpoints by now."""
        trainer = self.trainer
        assert trainer is not None
        pack: Any = trainer.lightning_module
        steps = [
            Steps(run.songs, run.split[0], run.plan, self.max_frames, 0, 1, run.loss.reduction, run.data.cropped)
            for run in self.runs
        ]
        starts, stops = [lane.step for lane in pack.lanes], [run.total_steps for run in self.runs]
        together = StepsTogether(steps, starts, stops, self.max_frames)
        return together.loader(self.runs[0].data.workers, trainer.strategy.root_device.type == "cuda")

    def on_before_batch_transfer(self, batch: list[Together] | Unreadable, dataloader_idx: int) -> list[Together]:
        """Raise Failed where a step's songs could not be read."""
        return readable(batch)
