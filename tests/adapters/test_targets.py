"""Patterns select modules by whole parts of their names, in either spelling."""

import pytest

from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers
from acetrain.adapters.targets import Targets
from acetrain.errors import Refused

LAYERS = linear_layers(Tiny("tiny", "", 8, 1.0, 1.0).config("transformer"))


@pytest.mark.parametrize(
    ("pattern", "example", "count_per_layer"),
    [
        ("q_proj", "layers.0.self_attn.to_q", 2),
        ("to_out.0", "layers.0.cross_attn.to_out.0", 2),
        ("mlp", "layers.0.mlp.up_proj", 3),
        ("cross_attn.*", "layers.0.cross_attn.to_v", 4),
    ],
)
def test_patterns_in_both_spellings(pattern: str, example: str, count_per_layer: int) -> None:
    chosen = Targets([pattern], []).select(LAYERS)
    layers = len({name.split(".")[1] for name in LAYERS if name.startswith("layers.")})
    assert example in chosen and len(chosen) == count_per_layer * layers


def test_a_number_is_a_whole_part() -> None:
    assert all(name.startswith("layers.1.") for name in Targets(["layers.1"], []).select(LAYERS))


def test_exclusion_takes_away() -> None:
    chosen = Targets(["self_attn", "cross_attn"], ["layers.0", "v_proj"]).select(LAYERS)
    assert chosen and not any(name.startswith("layers.0.") or name.endswith("to_v") for name in chosen)


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        (["q_prj"], [], "targets.include: 'q_prj' matches no module of the DiT; nearest: q_proj"),
        (["layers.99"], [], "targets.include: 'layers.99' matches no module"),
        (["mlp"], ["nonsense"], "targets.exclude: 'nonsense' matches no module"),
        (["mlp"], ["mlp"], "must select at least one module"),
        ([], [], "must select at least one module"),
    ],
)
def test_a_pattern_without_a_match_names_the_nearest(include: list[str], exclude: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message.replace("(", r"\(")):
        Targets(include, exclude).select(LAYERS)
