"""How many padded frames a micro-batch may hold: as asked for, or what real steps show that the card's memory holds."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.distributed.tensor import DTensor

from acetrain.adapters.injection import adapter_state, load_adapter_state, trainable
from acetrain.data.batch import Batch, collate
from acetrain.errors import Failed
from acetrain.training.module import FlowMatching
from acetrain.training.remembered import Remembered, circumstances
from acetrain.training.replicas import first_rank, smallest_over_ranks

MARGIN = 0.1
"""Share of the card's memory that tries may not touch: kept for fragments, the sum over ranks, and the display."""
WITHOUT_CARD = 6000
"""What auto stands for where there is no GPU whose memory could be filled."""
GRAIN = 1 / 16
"""How near the largest budget the search comes, as a share of the longest song."""


@dataclass(frozen=True)
class Extent:
    """What bounds the micro-batches of a run."""

    longest: int
    """Frames of the longest song."""
    shortest: int
    """Frames of the shortest song."""
    tokens: int
    """Most condition rows of a song."""
    songs_per_step: int


@dataclass
class Budget:
    """The frame budget of a run; auto is settled when it is first asked for, with the module on its device."""

    asked: int | None
    """Padded frames, None for what the device holds."""
    extent: Extent
    remembered: Remembered
    settled: int = field(default=0, init=False)

    def frames(self, module: FlowMatching) -> int:
        """Padded frames of a micro-batch, the same on every rank. All ranks must ask together the first time.

        Raises `Failed`, on every rank, where the card of one does not hold a single song.
        """
        if not self.settled:
            self.settled = self.asked or smallest_over_ranks(self._on_this_card(module), module.device)
        if not self.settled:
            raise Failed(too_large(module, f"one song of {self.extent.longest} frames"))
        return self.settled

    def _on_this_card(self, module: FlowMatching) -> int:
        card = card_of(module.device)
        if card is None:
            self._say(WITHOUT_CARD, "what auto stands for without a GPU")
            return WITHOUT_CARD
        key = circumstances(module, card, vars(self.extent))
        known = self.remembered.find(key)
        if known:
            self._say(known, f"as found on {card[0]} before, {self.remembered.file}")
            return known
        found = find(module, self.extent)
        if found:
            self.remembered.keep(key, found)
            self._say(found, f"what real steps left room for on {card[0]}")
        return found

    def _say(self, frames: int, why: str) -> None:
        if first_rank():
            print(f"data.max_frames: {frames}, {why}", flush=True)


def card_of(device: torch.device) -> tuple[str, int] | None:
    """Name and bytes of a GPU; None for any other device."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return properties.name, properties.total_memory


def find(module: FlowMatching, extent: Extent) -> int:
    """The largest budget whose worst micro-batches the card holds in real steps, within `GRAIN` of the longest song.

    0 where it does not hold the longest song alone. Leaves parameters, optimizer and random states as they were.
    """
    with untouched(module):
        probe = functools.cache(functools.partial(holds, module, tokens=extent.tokens))
        if not probe(1, extent.longest):
            return 0
        grain = max(1, int(extent.longest * GRAIN))

        def fits(frames: int) -> bool:
            return all(probe(songs, longest) for songs, longest in worst(extent, frames))

        whole_step = extent.songs_per_step * extent.longest
        found = largest(fits, extent.longest, whole_step, grain)
        return found or largest(fits, extent.shortest, extent.longest, grain)


def largest(fits: Callable[[int], bool], start: int, stop: int, grain: int = 1) -> int:
    """The largest number in start..stop that fits, or one less than `grain` below it; 0 where `start` does not fit.

    Doubles from `start`, then bisects. `fits` must not hold again above a number for which it does not.
    """
    if not fits(start):
        return 0
    low, high = start, start
    while low == high and low < stop:
        high = min(2 * low, stop)
        if fits(high):
            low = high
    while high - low > grain:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def worst(extent: Extent, frames: int) -> list[tuple[int, int]]:
    """The micro-batches (songs, frames of each) of a budget that no other takes more memory than, longest songs first.

    Memory is a*kT + b*kT^2 + c*kL for k songs of T frames with conditions of L rows. As long as the budget holds k of
    the longest songs it grows with k; from there on T is budget/k, the sum is convex in k, and largest at an end.
    """
    most = max(1, min(extent.songs_per_step, frames // extent.shortest))
    longest = max(1, min(most, frames // extent.longest))
    ends = dict.fromkeys((longest, min(most, longest + 1), most))
    return [(songs, min(extent.longest, frames // songs)) for songs in ends]


def holds(module: FlowMatching, songs: int, frames: int, tokens: int) -> bool:
    """Whether the device's memory holds real steps on `songs` songs of `frames` frames and `tokens` condition rows.

    Two steps, as a micro-batch meets the gradients of the one before it and the optimizer's state of earlier steps.
    """
    batch = empty_batch(module, songs, frames, tokens)
    optimizer = module.configure_optimizers()
    try:
        with module.trainer.precision_plugin.train_step_context():
            for _ in range(2):
                module.accumulate([batch.to(module.device)])
                optimizer.step()
        held = True
    except torch.OutOfMemoryError:
        held = False
    del optimizer
    module.zero_grad()
    if module.device.type == "cuda":
        torch.cuda.empty_cache()
    return held


def empty_batch(module: FlowMatching, songs: int, frames: int, tokens: int) -> Batch:
    """A micro-batch of zeros on the CPU; from the second song on one frame and row short, so that it runs masked."""
    channels, width = module.silence.shape[1], module.null_condition.shape[0]
    lengths = [(frames, tokens), *[(max(1, frames - 1), max(1, tokens - 1))] * (songs - 1)]
    pairs = [(torch.zeros(length, channels), torch.zeros(rows, width)) for length, rows in lengths]
    return collate(pairs, [("budget", index) for index in range(songs)], 1 / songs)


@contextmanager
def untouched(module: FlowMatching) -> Iterator[None]:
    """Within it, steps may be tried: weights, gradients, random states and peak figures are put back at its end, and
    on a GPU `MARGIN` of the memory is out of reach."""
    on_gpu = module.device.type == "cuda"
    weights = adapter_state(module.dit)
    with torch.random.fork_rng(devices=[module.device] if on_gpu else []):
        try:
            if on_gpu:
                torch.cuda.set_per_process_memory_fraction(_reachable(module.device), module.device)
            yield
        finally:
            load_adapter_state(module.dit, weights)
            for parameter in trainable(module.dit).values():
                parameter.grad = None
            if on_gpu:
                torch.cuda.set_per_process_memory_fraction(1.0, module.device)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(module.device)


def _reachable(device: torch.device) -> float:
    """Share of the card that this process may take: all that others leave, less the margin."""
    free, total = torch.cuda.mem_get_info(device)
    return max(0.0, (free + torch.cuda.memory_reserved(device)) / total - MARGIN)


def too_large(module: FlowMatching, what: str) -> str:
    """That `what` does not fit the memory, and what helps."""
    card, dit = card_of(module.device), module.dit
    recomputed, blocks = len(dit.recomputed), len(dit.layers)
    shared_out = any(isinstance(weight, DTensor) for weight in dit.parameters())
    ways = ["lower data.max_frames" if shared_out else "lower data.max_frames or let it be auto"]
    ways += [] if recomputed == blocks else ["set trainer.gradient_checkpointing=full"]
    quantised = any(name.endswith(".codes") for name, _ in dit.named_buffers())
    if dit.scale_shift_table.dtype is torch.float32:
        ways += ["set precision=bf16"]
    elif not (quantised or shared_out):
        ways += ["set precision=nf4"]
    return (
        f"data.max_frames: {what} does not fit the memory of {card[0] if card else 'this machine'}, with "
        f"{recomputed} of {blocks} blocks recomputed; {', '.join(ways)}, or train on shorter songs"
    )
