"""Draws belong to their key."""

import hashlib
from collections import Counter

import torch

from acetrain.keyed import below, generator, seed_of, share


def test_seeds_are_fixed_for_all_time() -> None:
    digest = hashlib.blake2b(b'[0, 3, "song.wav", 0, "t"]', digest_size=8).digest()
    assert seed_of(0, 3, "song.wav", 0, "t") == int.from_bytes(digest, "big") >> 1
    assert seed_of("a") == 1417421833181456274


def test_keys_do_not_run_together() -> None:
    keys = [("a", "b"), ("ab",), ("a", "b", ""), (1, "1"), ("1", 1), (11,), (1, 1), ("a,b",)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)


def test_a_generator_ignores_and_leaves_the_global_state() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = torch.randn(4, generator=generator(0, "noise"))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(torch.randn(4, generator=generator(0, "noise")), first)
    assert not torch.equal(torch.randn(4, generator=generator(1, "noise")), first)


def test_whole_numbers_and_shares_are_drawn_evenly_and_by_their_key() -> None:
    numbers = Counter(below(7, "a", place) for place in range(7000))
    assert sorted(numbers) == list(range(7)) and all(900 < count < 1100 for count in numbers.values())
    shares = sorted(share("a", place) for place in range(2000))
    assert all(abs(found - (place + 0.5) / 2000) < 0.04 for place, found in enumerate(shares)) and shares[-1] < 1
    assert below(7, "a", 3) == below(7, "a", 3) and share("a", 3) == share("a", 3) != share("b", 3)
    assert below(1, "a") == 0
