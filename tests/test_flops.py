"""The operations counted for model FLOP utilisation against those torch counts while the real module runs."""

import pytest
import torch
from fabricate import attached, song
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acetrain.acestep.load import text_to_music_context
from benchmarks.flops import known_peak, pairs, step_flops


@pytest.mark.parametrize(("frames", "tokens", "rank"), [(300, 40, 4), (61, 17, 8)])
def test_the_formula_counts_what_the_module_does(frames: int, tokens: int, rank: int) -> None:
    loaded = attached(rank=rank)
    latents, condition = (tensor[None] for tensor in song(frames, tokens, seed=0))
    context = text_to_music_context(loaded.silence, frames)[None]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loaded.dit.velocity(latents, torch.tensor([0.4]), condition, context, (frames,), (tokens,)).sum().backward()
    assert step_flops(loaded.dit, frames, tokens, windowed=False) == counter.get_total_flops()


@pytest.mark.parametrize(("n", "window"), [(1, 3), (3, 3), (4, 3), (5, 3), (40, 7)])
def test_a_window_has_so_many_pairs(n: int, window: int) -> None:
    assert pairs(n, window) == sum(abs(i - j) <= window for i in range(n) for j in range(n))


def test_cards_are_known_by_part_of_their_name() -> None:
    assert known_peak("NVIDIA H100 PCIe") == 756e12 and known_peak("NVIDIA H100 80GB HBM3") == 989e12
    assert known_peak("NVIDIA L40S") == 362e12 and known_peak("NVIDIA L4") == 121e12
    assert known_peak("a card of 2030") is None
