"""What trains is counted, by kind and module by module."""

import csv
import io

from fabricate import MODEL, base

from acetrain.acestep.names import linear_layers
from acetrain.adapters.injection import trainable
from acetrain.adapters.lora import Init, LoRA, RsLoRA
from acetrain.adapters.rotations import OFT
from acetrain.adapters.summary import summarised, table, trained_modules
from acetrain.adapters.targets import Targets

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = Targets(["q_proj", "condition_embedder"], []).select(LAYERS)


def test_every_module_is_counted_and_named_officially() -> None:
    loaded = base()
    whole = sum(parameter.numel() for parameter in loaded.dit.parameters())
    LoRA(rank=4, alpha=6.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        loaded.dit, NAMES, seed=0
    )
    modules = trained_modules(loaded.dit)
    rows = list(csv.DictReader(io.StringIO(table(modules))))
    assert next(row["module"] for row in rows if "cross_attn" in row["module"]) == "layers.0.cross_attn.q_proj"
    assert {(row["rank"], row["strength"]) for row in rows} == {("4", "1.5")}
    for row in rows:
        assert int(row["parameters"]) == 4 * (int(row["outputs"]) + int(row["inputs"]))
    summary = summarised(modules, loaded.dit)
    training = sum(parameter.numel() for parameter in trainable(loaded.dit).values())
    assert summary["parameters"] == training and summary["share"] == training / whole
    assert summary["kinds"][-1].startswith("1 x condition_embedder [") and len(summary["kinds"]) == 3


def test_strength_is_what_multiplies_the_update() -> None:
    loaded = base()
    RsLoRA(rank=4, alpha=6.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        loaded.dit, NAMES, seed=0
    )
    assert {module.strength for module in trained_modules(loaded.dit)} == {3.0}


def test_a_type_without_ranks_has_none() -> None:
    loaded = base()
    OFT(8, False, 6e-5, False, 5, start_from="").attach(loaded.dit, NAMES, seed=0)
    module = trained_modules(loaded.dit)[0]
    assert (module.rank, module.strength) == (None, None) and module.parameters == 128 // 8 * 28
