"""Patterns select modules by whole parts of their names, in either spelling."""

import pytest

from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers
from acetrain.adapters.targets import Blocks, Targets, block_of
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
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


COUNT = 1 + max(block_of(name) or 0 for name in LAYERS)


@pytest.mark.parametrize(
    ("first", "last", "blocks"), [(0, -1, range(COUNT)), (1, 1, [1]), (-1, COUNT - 1, [COUNT - 1])]
)
def test_a_range_of_blocks(first: int, last: int, blocks: list[int]) -> None:
    chosen = Blocks(["mlp"], ["up_proj"], first, last).select(LAYERS)
    assert chosen == [f"layers.{block}.mlp.{part}" for block in blocks for part in ("gate_proj", "down_proj")]


@pytest.mark.parametrize(
    ("first", "last", "include", "message"),
    [
        (COUNT, -1, "mlp", f"targets.first: must be from -{COUNT} to {COUNT - 1}, got {COUNT}"),
        (0, -COUNT - 1, "mlp", "targets.last: must be from"),
        (1, 0, "mlp", r"targets.last: must be at least targets.first \(1\), got 0"),
        (0, 0, "layers.1", "targets.include: 'layers.1' matches no module"),
        (0, -1, "condition_embedder", "targets.include: 'condition_embedder' matches no module"),
    ],
)
def test_blocks_that_are_not_there_are_refused(first: int, last: int, include: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        Blocks([include], [], first, last).select(LAYERS)


CONDITIONING = 1 + 2 * 3
"""The condition's embedder, and three layers of each of the two embeddings of time."""


@pytest.mark.parametrize(
    ("option", "in_a_block", "outside"),
    [
        ("attention", 8, 0),
        ("self_attention", 4, 0),
        ("cross_attention", 4, 0),
        ("mlp", 3, 0),
        ("attention_mlp", 11, 0),
        ("blocks", 11, 0),
        ("conditioning", 0, CONDITIONING),
        ("all_linear", 11, CONDITIONING),
    ],
)
def test_each_option_selects_what_it_says(option: str, in_a_block: int, outside: int) -> None:
    job = Composer("train", Sources((PACKAGED,))).compose([read(f"targets={option}"), read("cache=x")]).build()
    chosen = job.targets.select(LAYERS)
    assert sum(block_of(name) is not None for name in chosen) == COUNT * in_a_block
    assert sum(block_of(name) is None for name in chosen) == outside
