"""Advice before and during a run: said where its numbers ask for it, and nowhere else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricate import cache
from runs import train
from test_laws import SOURCES, option

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.training import advice

COMPOSER = Composer("train", SOURCES)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=2)


def composed(songs: Path, *overrides: str) -> Any:
    return COMPOSER.compose([read(text) for text in (f"cache={songs}", *overrides)]).build()


CASES = [
    (["max_steps=49"], "optimizer.beta2: 0.999 averages over about 1000 steps and the run has 49; 0.98 would suit it"),
    (["max_steps=50"], None),
    (["max_steps=49", "optimizer.beta2=0.99"], None),
    (["max_steps=49", "optimizer=lion"], None),
    (["max_steps=400", "optimizer=prodigy", "optimizer.lr=1"], None),
    (
        ["max_steps=400", "optimizer=prodigy", "optimizer.lr=1e-4"],
        "optimizer.lr: .* of which 0.0001 is a factor; 1 is usual",
    ),
    (
        ["max_steps=400", "optimizer=prodigy", "schedule.warmup=9"],
        "schedule.warmup: .* 9 steps of warm-up .*; 0 is usual",
    ),
    (["max_steps=400", "optimizer=prodigy", "schedule.warmup_share=0.1"], "schedule.warmup: .* 40 steps of warm-up"),
    (["max_steps=400", "optimizer=adamw", "schedule.warmup=9"], None),
    (
        ["max_steps=400", "optimizer=prodigy", "schedule=cosine_restarts", "schedule.warmup=0"],
        "schedule: Prodigy wants .* restarts 2 times",
    ),
    (["max_steps=400", "optimizer=prodigy", "schedule=cosine", "schedule.warmup=0"], None),
    (["max_steps=400", "optimizer=adamw_schedulefree"], None),
    (
        ["max_steps=400", "optimizer=adamw_schedulefree", "schedule=linear"],
        "schedule: AdamWScheduleFree .* Linear falls",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "expected"), CASES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_run_is_advised_on_its_numbers(songs: Path, overrides: list[str], expected: str | None) -> None:
    import re

    said = advice.before(composed(songs, *overrides))
    assert len(said) == (expected is not None)
    assert expected is None or re.match(expected, said[0]), said


def test_a_d_that_does_not_rise_is_told_once_the_second_moment_has_settled() -> None:
    prodigy = option("optimizer", "prodigy")
    (said,) = advice.after(prodigy, 100, {"d": 2e-6})
    assert said.startswith("optimizer.d_coef: after 100 steps Prodigy's d is 2e-06, from 1e-06")
    assert advice.after(prodigy, 100, {"d": 1e-4}) == advice.after(prodigy, 99, {"d": 2e-6}) == []
    assert advice.after(replace(prodigy, beta2=0.9), 100, {"d": 2e-6}) == []
    assert advice.after(option("optimizer", "adamw"), 1000, {}) == []


def test_a_run_says_its_advice_in_a_line_each(songs: Path, tmp_path: Path) -> None:
    low = ["optimizer=prodigy", "optimizer.lr=1", "optimizer.beta2=0.5", "optimizer.d_coef=0.001", "max_steps=3"]
    done = train(songs, tmp_path / "low", *low)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("advice: ")]
    assert line.startswith("advice: optimizer.d_coef: after 2 steps Prodigy's d is ")
    quiet = train(songs, tmp_path / "quiet", "max_steps=3", "optimizer.beta2=0.9")
    assert quiet.returncode == 0 and "advice" not in quiet.stderr
