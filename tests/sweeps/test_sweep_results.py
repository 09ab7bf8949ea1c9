"""What a sweep came to: its runs read back, seeds taken together, settings in order, one row a run as CSV."""

import csv
import math

import imagined
import pytest

from acetrain.errors import Refused
from acetrain.sweeps.listing import lines, write_csv
from acetrain.sweeps.record import Record
from acetrain.sweeps.results import collect
from acetrain.sweeps.state import State
from acetrain.sweeps.table import shown

AXES = {"adapter.rank": [8, 16], "optimizer": ["adamw", "prodigy"], "seed": [0, 1, 2]}
SPREAD = (0.9, 1.0, 1.1)


def loss_of(given):
    return given["adapter.rank"] / 8 * SPREAD[given["seed"]] + (given["optimizer"] == "prodigy")


@pytest.fixture
def record(tmp_path) -> Record:
    return imagined.sweep(tmp_path, "small", imagined.grid(AXES), loss_of, "Which?")


def test_seeds_are_taken_together_with_student_s_interval(record):
    settings = collect(record).settings
    assert [setting.values for setting in settings[:2]] == [
        {"adapter.rank": 8, "optimizer": "adamw"},
        {"adapter.rank": 8, "optimizer": "prodigy"},
    ], "of 8: 1.0 and 2.0; of 16: 2.0 and 3.0, the first found first"
    first = settings[0]
    losses = [spread * (1 + math.exp(-6)) for spread in SPREAD]
    assert first.mean == pytest.approx(losses[1], rel=1e-6) and len(first.runs) == 3
    assert first.interval == pytest.approx(4.302653 * 0.1 * (1 + math.exp(-6)) / math.sqrt(3), rel=1e-5), "t at 2 df"


def test_the_order_is_that_of_the_means_and_the_best_run_is_the_lowest_of_the_best_setting(record):
    results = collect(record)
    means = [setting.mean for setting in results.settings]
    assert means == sorted(means) and results.objective == "best_val_loss"
    assert results.best is not None and results.best.values == {"adapter.rank": 8, "optimizer": "adamw", "seed": 0}


def test_what_failed_counts_for_nothing_and_is_said(record):
    imagined.fail(record, 0, 10, "loss: not finite")
    for place in (3, 4, 5):
        imagined.fail(record, place, 10, "loss: not finite")
    results = collect(record)
    [once] = [setting for setting in results.settings if len(setting.losses) == 2]
    assert once.values == {"adapter.rank": 8, "optimizer": "adamw"} and math.isfinite(once.interval)
    assert results.settings[-1].values == {"adapter.rank": 8, "optimizer": "prodigy"}, "no run of it is finished"
    assert math.isnan(results.settings[-1].mean)
    said = "\n".join(lines(results))
    assert "12 runs: 8 finished, 4 failed" in said and "2 of 3" in said


def test_what_was_pruned_comes_after_what_is_finished_by_how_low_it_came(tmp_path):
    values = imagined.grid({"optimizer.lr": [1.0, 2.0, 3.0, 4.0]})
    record = imagined.sweep(tmp_path, "search", values, lambda given: given["optimizer.lr"])
    for place, loss in ((0, 3.0), (1, 2.0)):
        imagined.prune(record, place, 20, loss)
    settings = collect(record).settings
    assert [setting.values["optimizer.lr"] for setting in settings] == [3.0, 4.0, 2.0, 1.0]
    assert [bool(setting.losses) for setting in settings] == [True, True, False, False]
    assert "4 runs: 2 finished, 2 pruned" in "\n".join(lines(collect(record)))


def test_one_run_has_no_interval(tmp_path):
    record = imagined.sweep(tmp_path, "one", imagined.grid({"seed": [0]}), lambda given: 1.0)
    [setting] = collect(record).settings
    assert math.isnan(setting.interval) and "-" in lines(collect(record))[1].split()


def test_a_row_for_each_run(record):
    imagined.fail(record, 7, 20, "a line, and\nanother")
    with write_csv(collect(record)).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and list(rows[0])[:6] == ["run", *AXES, "state", "step"]
    first, failed = rows[0], rows[7]
    assert (first["state"], first["step"], first["steps"]) == ("finished", "60", "60")
    assert float(first["best_val_loss"]) == pytest.approx(0.9 * (1 + math.exp(-6)), rel=1e-6)
    assert (first["best_val_step"], first["last_val_step"], first["parameters"]) == ("60", "60", str(8 * 1024 + 10))
    assert float(first["train_seconds"]) == 30 and float(first["device_hours"]) == pytest.approx(30 / 3600)
    assert float(first["most_memory_mb"]) == 512 and first["folder"] == str(record.folder(first["run"]))
    assert (failed["state"], failed["step"], failed["message"]) == ("failed", "20", "a line, and\nanother")


def test_a_run_that_has_not_begun_is_a_row_too(record):
    import shutil

    shutil.rmtree(record.folder(record.read().entries[2].run))
    results = collect(record)
    assert results.runs[2].state is State.missing and results.runs[2].figures == {}
    with write_csv(results).open(newline="") as file:
        assert list(csv.DictReader(file))[2]["best_val_loss"] == ""


def test_without_held_out_songs_the_training_loss_decides(record):
    for entry in record.read().entries:
        table = record.folder(entry.run) / "metrics.csv"
        header, *rows = table.read_text().splitlines()
        column = header.split(",").index("val_loss")
        cells = [",".join("" if place == column else cell for place, cell in enumerate(row.split(","))) for row in rows]
        table.write_text("\n".join([header, *cells]) + "\n")
    assert collect(record).objective == "final_train_loss"


def test_a_sweep_that_is_not_there(tmp_path):
    imagined.sweep(tmp_path, "ranks", imagined.grid({"seed": [0]}), lambda given: 1.0)
    with pytest.raises(Refused, match=r"there is no sweep 'rank' .*; nearest: ranks"):
        collect(Record.of(tmp_path, "rank"))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ([1, [2.5, None]], "[1,[2.5,null]]"),
        ({"a": [True, None]}, "{a:[true,null]}"),
        (None, "null"),
        ("two\nlines", "two\\nlines"),
        ("", ""),
    ],
)
def test_a_value_is_shown_as_one_types_it_on_one_line(value, cell):
    assert shown(value) == cell
