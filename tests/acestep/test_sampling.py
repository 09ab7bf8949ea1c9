"""Music from upstream's pipeline: which random states it leaves as they were."""

import torch

from acetrain.acestep.sampling import Sampling, sample
from acetrain.acestep.tasks import Text2music
from acetrain.data.prompt import Prompt


def test_random_states_of_cards_that_make_nothing_are_not_touched(pipeline, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    before = torch.get_rng_state()
    prompt = Prompt("a slow waltz", "[Instrumental]", None, "", "", "en")
    asked = Sampling(duration=0.5, seed=1, steps=1, shift=1.0, guidance=1.0)
    heard = sample(pipeline, prompt, asked, Text2music().arguments(), None, None, lambda: None)
    assert heard.shape[0] == 2 and torch.equal(torch.get_rng_state(), before)
