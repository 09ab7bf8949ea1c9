"""Draws belong to their key."""

import hashlib

import torch

from acetrain.keyed import generator, seed_of


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
