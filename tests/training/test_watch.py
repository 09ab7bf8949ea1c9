"""Advice while a run trains: each rule on figures that ask for it, and on those just inside its bound."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from test_laws import option

from acetrain.training.watch import Watch


def rows(losses: list[float], held_out: Mapping[int, float]) -> list[dict[str, Any]]:
    """Rows of metrics.csv as a restart reads them."""
    return [
        {"step": str(step), "loss": str(loss), "lr": "0.0001", "val_loss": str(held_out.get(step, ""))}
        for step, loss in enumerate(losses, start=1)
    ]


def said(losses: list[float], held_out: Mapping[int, float] | None = None, epoch: int = 2) -> list[str]:
    """All that is said of a run with these losses, the held-out ones by step."""
    watch = Watch(option("optimizer", "adamw"), epoch)
    return [line for row in rows(losses, held_out or {}) for line in watch.after(row)]


FALLING = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]


def test_a_held_out_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    (line,) = said(FALLING, {2: 1.0, 4: 0.9, 6: 0.95, 8: 0.93})
    assert line.startswith(
        "overfitting: the held-out loss has risen from 0.9 at step 4 to 0.93 at step 8, while the training loss fell "
        "from 0.85 to 0.45; best/ holds step 4"
    )


@pytest.mark.parametrize(
    ("losses", "held_out"),
    [
        pytest.param(FALLING, {2: 1.0, 4: 0.9, 6: 0.917, 8: 0.95}, id="one of two within 2 %"),
        pytest.param(FALLING, {2: 1.0, 4: 0.95, 6: 0.9, 8: 0.95}, id="risen once"),
        pytest.param(FALLING, {2: 1.0, 4: 0.9, 6: 0.8, 8: 0.7}, id="falling"),
        pytest.param([1.0] * 8, {2: 1.0, 4: 0.9, 6: 0.95, 8: 0.95}, id="training stands still"),
    ],
)
def test_it_is_none_within_the_bound(losses: list[float], held_out: dict[int, float]) -> None:
    assert said(losses, held_out) == []


def test_a_loss_near_zero_without_songs_held_out_cannot_be_judged() -> None:
    (line,) = said([1.0, 1.0, 0.5, 0.5, 0.09, 0.1])
    assert line.startswith("data.validation: the training loss is down to 0.095 from 1 and no song is held out")
    assert said([1.0, 1.0, 0.5, 0.5, 0.1, 0.1]) == []
    assert said([1.0, 1.0, 0.5, 0.5, 0.09, 0.1], {2: 1.0, 6: 0.5}) == []
    assert said([1.0, 0.01], epoch=2) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_twice_in_a_row_asks_for_less(bad: float) -> None:
    (line,) = said([1.0, bad, 1.0, bad, bad, bad])
    assert line.startswith("optimizer.lr: the loss of 2 steps in a row, up to step 5, was not finite at a ")
    assert line.endswith("5e-05 instead of 0.0001 would be a start")
    assert said([1.0, bad, 1.0, bad, 1.0]) == []


def test_what_was_said_is_not_said_again_after_a_restart() -> None:
    history = rows([1.0, math.nan, math.nan], {})
    watch = Watch(option("optimizer", "adamw"), 2)
    watch.go_on_from(history)
    assert watch.bad == 2 and watch.after(rows([1.0, 1.0, 1.0, math.nan], {})[-1]) == []
    again = Watch(option("optimizer", "adamw"), 2)
    again.go_on_from(history[:2])
    assert len(again.after(history[2])) == 1


def test_estimates_are_looked_at_at_their_step() -> None:
    watch = Watch(option("optimizer", "prodigy"), 2)
    told = [watch.after({"step": step, "loss": 1.0, "lr": 1.0, "d": 1e-6}) for step in range(1, 103)]
    assert [step for step, lines in enumerate(told, start=1) if lines] == [100]
