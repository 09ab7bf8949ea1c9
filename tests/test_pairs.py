"""Adapters, targets, optimizers and precisions together: every pair composes and is checked, and a covering set of runs
trains each pair that may be trained."""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path

import pytest
from fabricate import cache
from reports import choice as choice_of_targets
from runs import QUICK, metrics
from test_laws import SOURCES, options

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.errors import Refused

GROUPS = ("adapter", "targets", "optimizer", "precision")
WITHOUT_A_AND_B = (
    "adalora",
    "boft",
    "full",
    "ia3",
    "locon_dora",
    "loha",
    "loha_lycoris",
    "lokr",
    "lokr_lycoris",
    "oft",
    "vera",
)
REFUSED: Mapping[tuple[str, str], str] = {
    **{
        (
            f"adapter={name}",
            "optimizer=lora_plus",
        ): "optimizer: must be another than LoraPlus for an adapter without A and B"
        for name in WITHOUT_A_AND_B
    },
    **{
        (f"adapter={name}", "targets=sensitivity"): "adapter: must be lora, rslora or dora where targets give ranks"
        for name in WITHOUT_A_AND_B
    },
    ("adapter=full", "precision=int8"): "precision.quantised: must be none for adapter=full",
    ("adapter=full", "precision=nf4"): "precision.quantised: must be none for adapter=full",
}
"""Pairs that cannot be trained, as `group=option`, and what each is told."""
Row = tuple[str, ...]

CHOICES = {group: [f"{group}={name}" for name in options(group)] for group in GROUPS}
PAIRS = [pair for one, other in combinations(GROUPS, 2) for pair in product(CHOICES[one], CHOICES[other])]
COMPOSER = Composer("train", SOURCES)


def covering_rows() -> Iterator[Row]:
    """Rows, an option of each group, that hold every pair which may be trained: the next row always begins with the
    first pair that none holds yet, and takes of each other group what holds most of the others."""
    open_pairs = {pair: None for pair in PAIRS if pair not in REFUSED}
    while open_pairs:
        row = list(next(iter(open_pairs)))
        for group in (group for group in GROUPS if not any(choice.startswith(f"{group}=") for choice in row)):
            fitting = [one for one in CHOICES[group] if not any(pair in REFUSED for pair in with_each(one, row))]
            row.append(max(fitting, key=lambda one: sum(pair in open_pairs for pair in with_each(one, row))))
        chosen = tuple(sorted(row, key=order))
        for pair in combinations(chosen, 2):
            open_pairs.pop(pair, None)
        yield chosen


def order(choice: str) -> int:
    """The place of a choice's group."""
    return GROUPS.index(choice.partition("=")[0])


def with_each(one: str, row: list[str]) -> list[tuple[str, str]]:
    """The pairs of a choice with those of a row, as `PAIRS` has them."""
    return [(one, other) if order(one) < order(other) else (other, one) for other in row]


ROWS = list(covering_rows())


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=2)


def spelt_out(row: Row) -> list[str]:
    """The choices of a row as a command line makes them."""
    return [
        text
        for choice in row
        for text in (choice_of_targets(choice.partition("=")[2]) if order(choice) == 1 else [choice])
    ]


def told(songs: Path, pair: tuple[str, str]) -> str:
    """What a run of the pair is told before it starts; nothing if it may."""
    given = [f"cache={songs}", "trainer=cpu", "max_steps=200", *spelt_out(pair)]
    try:
        COMPOSER.compose([read(text) for text in given]).build().check()
    except Refused as refusal:
        return str(refusal)
    return ""


def test_the_rows_hold_every_pair_that_may_be_trained() -> None:
    held = {pair for row in ROWS for pair in combinations(row, 2)}
    assert held == set(PAIRS) - set(REFUSED) and set(REFUSED) <= set(PAIRS)
    sizes = sorted(map(len, CHOICES.values()))
    assert sizes[-1] * sizes[-2] <= len(ROWS) + len(REFUSED) and len(ROWS) < 1.2 * sizes[-1] * sizes[-2]


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for group in GROUPS for choice in CHOICES[group]])
def test_every_pair_is_composed_and_those_that_cannot_be_trained_are_told_why(songs: Path, choice: str) -> None:
    for pair in PAIRS:
        if pair[0] == choice:
            expected = REFUSED.get(pair, "$")
            assert re.match(expected, message := told(songs, pair)), f"{pair}: {message}"


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_row_of_the_covering_set_trains(songs: Path, tmp_path: Path, row: Row) -> None:
    quick = [text for text in QUICK if not text.startswith(("adapter.", "optimizer."))]
    run = tmp_path / "run"
    assert (
        main(["train", f"cache={songs}", f"out_dir={run}", *quick, "max_steps=2", "schedule.warmup=0", *spelt_out(row)])
        == 0
    )
    assert [row["step"] for row in metrics(run)] == ["1", "2"]
    assert all(math.isfinite(float(row["loss"])) for row in metrics(run))
    assert len(list((run / "adapter").glob("*.safetensors"))) == 1
