"""The frame budget found on a real card: it is used to the full, and the search leaves the card as it was."""

import pytest
import torch
from fabricate import attached, module
from lightning.pytorch import Trainer

from acetrain.adapters.injection import adapter_state
from acetrain.training.budget import MARGIN, Extent, card_of, find, holds, untouched
from acetrain.training.module import FlowMatching

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def training() -> FlowMatching:
    """A module on the card, in Lightning's hands, after a step that made the libraries' workspaces."""
    loaded = module(attached()).to("cuda")
    trainer = Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    loaded.trainer = trainer
    trainer.strategy.connect(loaded)
    with untouched(loaded):
        assert holds(loaded, songs=2, frames=100, tokens=10)
    return loaded


@pytest.fixture
def ballast():
    """All of the card but about 2 GiB and the margin is taken, so that the tiny base fills the rest."""
    free, total = torch.cuda.mem_get_info()
    taken = max(0, int(free - MARGIN * total) - 2 * 2**30)
    yield torch.empty(taken, dtype=torch.uint8, device="cuda")


def test_a_card_says_its_name_and_memory() -> None:
    card = card_of(torch.device("cuda", 0))
    assert card is not None and card[0] and card[1] > 2**30
    assert card_of(torch.device("cpu")) is None


def test_the_budget_found_fits_and_twice_as_much_does_not(training: FlowMatching, ballast: torch.Tensor) -> None:
    extent = Extent(longest=2000, shortest=1000, tokens=200, songs_per_step=4096)
    found = find(training, extent)
    assert extent.longest <= found < extent.longest * extent.songs_per_step
    with untouched(training):
        assert holds(training, found // extent.longest, extent.longest, extent.tokens)
        assert not holds(training, 2 * found // extent.longest + 1, extent.longest, extent.tokens)


def test_the_search_leaves_the_card_as_it_was(training: FlowMatching, ballast: torch.Tensor) -> None:
    weights = adapter_state(training.dit)
    state, allocated = torch.cuda.get_rng_state(), torch.cuda.memory_allocated()
    find(training, Extent(longest=2000, shortest=1000, tokens=200, songs_per_step=64))
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.cuda.memory_allocated() == allocated
    assert torch.cuda.max_memory_allocated() <= allocated + 2**20
    assert all(torch.equal(value, weights[name]) for name, value in adapter_state(training.dit).items())
    assert torch.empty(int(0.5 * torch.cuda.mem_get_info()[0]), dtype=torch.uint8, device="cuda").is_cuda
