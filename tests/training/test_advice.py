"""Advice before a run: said where its numbers ask for it, and nowhere else."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reports
from fabricate import cache
from runs import train
from test_laws import SOURCES, option

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.training import advice


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=2)


COMPOSER = Composer("train", SOURCES)


def composed(songs: Path, *overrides: str) -> Any:
    return COMPOSER.compose([read(text) for text in (f"cache={songs}", *overrides)]).build()


BETA2 = "optimizer.beta2: 0.999 averages over about 1000 steps and the run has 49; 0.98 would suit it"
CASES = [
    (advice.short_for_beta2, ["max_steps=49"], BETA2),
    (advice.short_for_beta2, ["max_steps=50"], None),
    (advice.short_for_beta2, ["max_steps=49", "optimizer.beta2=0.99"], None),
    (advice.short_for_beta2, ["max_steps=49", "optimizer=lion"], None),
    (advice.factor_of_d, ["optimizer=prodigy", "optimizer.lr=1"], None),
    (
        advice.factor_of_d,
        ["optimizer=prodigy", "optimizer.lr=1e-4"],
        "optimizer.lr: .* of which 0.0001 is a factor; 1 is usual",
    ),
    (
        advice.warmup_of_d,
        ["max_steps=400", "optimizer=prodigy", "schedule.warmup=9"],
        "schedule.warmup: .* 9 steps of warm-up .*; 0 is usual",
    ),
    (
        advice.warmup_of_d,
        ["max_steps=400", "optimizer=prodigy", "schedule.warmup_share=0.1"],
        "schedule.warmup: .* 40 steps of warm-up",
    ),
    (advice.warmup_of_d, ["max_steps=400", "optimizer=prodigy"], None),
    (advice.warmup_of_d, ["max_steps=400", "optimizer=adamw", "schedule.warmup=9"], None),
    (
        advice.schedule_of_d,
        ["optimizer=prodigy", "schedule=cosine_restarts", "schedule.warmup=0"],
        "schedule: Prodigy wants .* restarts 2 times",
    ),
    (advice.schedule_of_d, ["optimizer=prodigy", "schedule=cosine", "schedule.warmup=0"], None),
    (advice.measured_elsewhere, ["targets=all_linear"], None),
    (
        advice.measured_elsewhere,
        reports.choice("sensitivity"),
        "targets.force: the report was measured on another model and another data set, and is taken all the same",
    ),
    (advice.schedule_beside_averages, ["optimizer=adamw_schedulefree"], None),
    (
        advice.schedule_beside_averages,
        ["optimizer=adamw_schedulefree", "schedule=linear"],
        "schedule: AdamWScheduleFree .* Linear falls",
    ),
    (
        advice.passes_over_songs,
        ["max_epochs=799"],
        "max_epochs: 799 steps are 799 passes over 2 songs; 800 to 1000 are usual for so many",
    ),
    (advice.passes_over_songs, ["max_epochs=800"], None),
    (advice.passes_over_songs, ["max_epochs=1000"], None),
    (advice.passes_over_songs, ["max_epochs=1001"], "max_epochs: 1001 steps are 1001 passes over 2 songs"),
    (advice.passes_over_songs, ["max_epochs=500", "data.repeats=2"], None),
    (advice.passes_over_songs, ["max_steps=5"], None),
    (advice.passes_over_songs, ["max_steps=1001"], "max_steps: 1001 steps are 1001 passes over 2 songs; 800 to 1000"),
    (
        advice.strength_of_lora,
        ["adapter.rank=16", "adapter.alpha=15"],
        "adapter.alpha: 15 at rank 16 is a strength of 0.938; 32, twice the rank, is usual",
    ),
    (advice.strength_of_lora, ["adapter.rank=16", "adapter.alpha=16"], None),
    (advice.strength_of_lora, ["adapter=dora", "adapter.rank=16", "adapter.alpha=64"], None),
    (advice.strength_of_lora, ["adapter=dora", "adapter.rank=16", "adapter.alpha=65"], "adapter.alpha: 65 at rank 16"),
    (advice.strength_of_lora, ["adapter=rslora", "adapter.rank=16", "adapter.alpha=1"], None),
    (advice.size_of_rank, ["adapter.rank=128"], None),
    (advice.size_of_rank, ["adapter.rank=129"], "adapter.rank: 129 is more than the 128 for what is complex"),
    (advice.much_dropout, ["adapter.dropout=0.3"], None),
    (advice.much_dropout, ["adapter.dropout=0.5"], "adapter.dropout: 0.5 of the inputs are dropped; 0.1 is usual"),
    (
        advice.young_average,
        ["max_steps=300", "ema=ema", "ema.decay=0.9999", "ema.warmup=1"],
        "ema.decay: after 300 steps the average is still 97% of what it began with at a decay of 0.9999",
    ),
    (advice.young_average, ["max_steps=300", "ema=ema", "ema.decay=0.99", "ema.warmup=1"], None),
    (advice.young_average, ["max_steps=300", "ema=ema", "ema.decay=0.9999"], None),
    (advice.young_average, ["max_steps=300"], None),
]


@pytest.mark.parametrize(
    ("rule", "overrides", "expected"),
    CASES,
    ids=lambda value: " ".join(text for text in value if "/" not in text) if isinstance(value, list) else "",
)
def test_a_rule_speaks_of_its_numbers_and_not_within_its_bound(
    songs: Path, rule: Any, overrides: list[str], expected: str | None
) -> None:
    run = composed(songs, *overrides)
    said = rule(run)
    assert rule in advice.RULES and (said in advice.before(run)) is (expected is not None)
    assert said is None if expected is None else re.match(expected, said), said


def test_every_rule_is_held_to_its_bound() -> None:
    for rule in advice.RULES:
        assert {expected is None for tried, _, expected in CASES if tried is rule} == {True, False}, rule.__name__


@pytest.mark.parametrize(
    ("count", "passes"), [(4, (800, 1000)), (5, (500, 800)), (19, (500, 800)), (20, (300, 500)), (100, (300, 500))]
)
def test_more_songs_take_fewer_passes(count: int, passes: tuple[int, int]) -> None:
    from acetrain.data.usual import usual_passes

    assert usual_passes(count) == passes


@pytest.mark.parametrize(
    ("gigabytes", "songs", "speaks"),
    [(12, 1, False), (16, 2, True), (24, 2, False), (24, 3, True), (40, 4, False), (40, 5, True), (80, 64, False)],
)
def test_a_batch_is_held_against_the_card(gigabytes: int, songs: int, speaks: bool) -> None:
    said = advice.batch_on_card(songs, ("A card", gigabytes * 2**30), "12000")
    assert (said is not None) is speaks
    if said:
        assert said.startswith(f"data.max_frames: 12000 frames hold {songs} of the longest songs; ")
        assert f"{gigabytes} GiB (A card)" in said


def test_a_d_that_does_not_rise_is_told_once_the_second_moment_has_settled() -> None:
    prodigy = option("optimizer", "prodigy")
    (said,) = advice.after(prodigy, 100, {"d": 2e-6})
    assert said.startswith("optimizer.d_coef: after 100 steps Prodigy's d is 2e-06, from 1e-06")
    assert advice.after(prodigy, 100, {"d": 1e-4}) == advice.after(prodigy, 99, {"d": 2e-6}) == []
    assert advice.after(replace(prodigy, beta2=0.9), 100, {"d": 2e-6}) == []
    assert advice.after(option("optimizer", "adamw"), 1000, {}) == []


def test_what_was_noted_is_not_noted_again(tmp_path: Path) -> None:
    assert advice.noted(tmp_path, []) == [] and not list(tmp_path.iterdir())
    assert advice.noted(tmp_path, ["a", "b"]) == ["a", "b"] and advice.noted(tmp_path, ["b", "c"]) == ["c"]
    assert (tmp_path / "advice.txt").read_text() == "a\nb\nc\n"


LOW = ["optimizer=prodigy", "optimizer.lr=1", "optimizer.beta2=0.5", "optimizer.d_coef=0.001", "adapter.alpha=100"]


def told(songs: Path, run: Path, *overrides: str) -> list[str]:
    done = train(songs, run, *overrides)
    assert done.returncode == 0
    return [line.removeprefix("advice: ") for line in done.stderr.splitlines() if line.startswith("advice: ")]


def test_a_run_says_its_advice_in_a_line_each_and_keeps_it(songs: Path, tmp_path: Path) -> None:
    said = told(songs, tmp_path / "run", *LOW, "max_steps=3")
    assert said[0].startswith("adapter.alpha: 100 at rank 4") and said[1].startswith("optimizer.d_coef: after 2 steps")
    assert len(said) == 2 and (tmp_path / "run" / "advice.txt").read_text().splitlines() == said


@pytest.mark.slow
def test_a_restart_says_nothing_of_the_run_again(songs: Path, tmp_path: Path) -> None:
    assert len(told(songs, tmp_path / "run", *LOW, "max_steps=3")) == 2
    assert len(told(songs, tmp_path / "run", *LOW, "max_steps=4")) == 1
    assert len((tmp_path / "run" / "advice.txt").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_run_without_a_fault_hears_nothing(songs: Path, tmp_path: Path) -> None:
    done = train(songs, tmp_path / "quiet", "max_steps=3", "optimizer.beta2=0.9")
    assert done.returncode == 0 and "advice" not in done.stderr and not (tmp_path / "quiet" / "advice.txt").exists()
