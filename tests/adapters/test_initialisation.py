"""First weights leave the base as it is, are not heard before training, and are saved for the untouched base."""

from dataclasses import replace
from pathlib import Path

import laws
import pytest
import torch
from fabricate import MODEL, base
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from acetrain.acestep.names import linear_layers
from acetrain.adapters.files import peft, saved
from acetrain.adapters.initialisation import orthogonal
from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, load_adapter_state, trainable
from acetrain.adapters.lora import DoRA, Init, LoRA, RsLoRA
from acetrain.adapters.targets import Targets
from acetrain.errors import Refused

pytestmark = pytest.mark.slow

LAYERS = linear_layers(MODEL.config("transformer"))
TARGETS = Targets(["self_attn", "mlp", "condition_embedder"], [])
NAMES = TARGETS.select(LAYERS)


def lora(init: Init) -> LoRA:
    return LoRA(4, 6.0, 0.0, init=init, init_songs=2, ranks={"q_proj": 2}, alphas={"k_proj": 3.0}, start_from="")


@pytest.mark.parametrize("init", Init)
@pytest.mark.parametrize("kind", [LoRA, RsLoRA])
def test_attaching_changes_nothing_and_the_saved_adapter_fits_the_untouched_base(
    init: Init, kind: type[LoRA], tmp_path: Path
) -> None:
    adapter = kind(**vars(lora(init)))
    loaded = base()
    before = laws.output(loaded)
    adapter.attach(loaded.dit, NAMES, seed=0)
    loaded.dit.eval()
    error = (laws.output(loaded) - before).abs().max() / before.abs().max()
    assert error == 0 if init in (Init.default, Init.gaussian) else error < 1e-5
    trained = laws.trained(adapter, TARGETS)
    ours = laws.output(trained)
    assert (ours - before).abs().max() > 1e-3 * before.abs().max()
    peft.save(trained.dit, tmp_path, "tiny", {})
    again = base()
    saved.load(again.dit, [(tmp_path, 1.0)])
    assert (laws.output(again) - ours).abs().max() / ours.abs().max() < 1e-5
    strengths = {name: layer.scaling[NAME] for name, layer in adapter_layers(trained.dit).items()}
    loaded_at = {name: layer.scaling[NAME] for name, layer in adapter_layers(again.dit).items()}
    assert loaded_at == pytest.approx(strengths)


@pytest.mark.parametrize("init", Init)
@pytest.mark.parametrize(
    "law",
    [laws.training_changes_the_adapter_and_no_base_weight, laws.merged_is_the_same, laws.goes_on_to_the_bit],
    ids=lambda law: law.__name__,
)
def test_every_start_obeys_the_laws(init: Init, law) -> None:
    law(lora(init), TARGETS)


@pytest.mark.parametrize("init", [Init.olora, Init.pissa])
def test_the_first_weights_are_pefts_own(init: Init) -> None:
    loaded, theirs = base(), base().dit
    replace(lora(init), ranks={}, alphas={}).attach(loaded.dit, NAMES, seed=0)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(NAMES), init_lora_weights=init.name)  # pyright: ignore
    inject_adapter_in_model(config, theirs)
    expected = adapter_layers(theirs)
    for name, layer in adapter_layers(loaded.dit).items():
        assert torch.equal(layer.lora_A[NAME].weight, expected[name].lora_A[NAME].weight)
        assert torch.equal(layer.lora_B[NAME].weight, expected[name].lora_B[NAME].weight)


def test_orthogonal_is_pefts_own_and_adds_nothing() -> None:
    theirs = base().dit
    name = NAMES[0]
    inject_adapter_in_model(LoraConfig(r=4, target_modules=[name]), theirs)
    layer = adapter_layers(theirs)[name]
    torch.manual_seed(3)
    layer.orthogonal_init(NAME)
    torch.manual_seed(3)
    a, b = orthogonal(4, *LAYERS[name])
    assert torch.equal(a, layer.lora_A[NAME].weight) and torch.equal(b, layer.lora_B[NAME].weight)
    assert (b @ a).abs().max() < 1e-6 < min(a.abs().max(), b.abs().max())


def test_first_weights_travel_with_the_checkpoint() -> None:
    def drawn(seed: int) -> nn.Module:
        loaded = base()
        lora(Init.pissa).attach(loaded.dit, NAMES, seed)
        return loaded.dit

    first, second = drawn(0), drawn(1)
    state = {name: value + 1 for name, value in adapter_state(first).items()}
    load_adapter_state(second, state)
    assert all(torch.equal(value, state[name]) for name, value in adapter_state(second).items())
    assert len(state) == 2 * len(trainable(second)) == 4 * len(NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": Init.orthogonal, "rank": 3}, "adapter.init: orthogonal must have an even rank, layers.0.*has 3"),
        ({"init": Init.pissa, "rank": 65}, "adapter.init: pissa must have a rank of at most .*k_proj has 65"),
        ({"init": Init.olora, "ranks": {"k_proj": 99}}, "adapter.init: olora must have a rank of at most"),
        ({"init": Init.gaussian, "start_from": "x"}, "adapter.init: must be default where adapter.start_from"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict, message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(lora(Init.default), **change).check({name: LAYERS[name] for name in NAMES})


def test_dora_does_not_begin_at_a_part_of_the_base() -> None:
    with pytest.raises(
        Refused, match=r"adapter.init: must be default, gaussian, orthogonal or eva for DoRA, got 'pissa'"
    ):
        DoRA(4, 6.0, 0.0, init=Init.pissa, init_songs=8, ranks={}, alphas={}, start_from="")
