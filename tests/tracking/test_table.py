"""`metrics.csv` holds each step once."""

from pathlib import Path

from acetrain.tracking.table import Table, read


def test_rows_after_the_checkpoint_and_torn_rows_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = Table(path, ["loss"], None)
    table.append([{"step": step, "loss": step / 3} for step in range(1, 6)])
    with path.open("a") as file:
        file.write("6,0.1")
    assert [row["step"] for row in read(path)] == ["1", "2", "3", "4", "5"]
    again = Table(path, ["loss"], 3)
    again.append([{"step": 4, "loss": None}])
    assert [(row["step"], row["loss"]) for row in read(path)] == [
        ("1", "0.33333333"),
        ("2", "0.66666667"),
        ("3", "1"),
        ("4", ""),
    ]


def test_a_new_run_starts_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Table(path, ["a"], None).append([{"step": 1, "a": 2}])
    Table(path, ["a"], None)
    assert path.read_text() == "step,a\n" and read(tmp_path / "absent.csv") == []


def test_cells_are_quoted_where_they_must_be(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    Table(path, ["song"], None).append([{"step": 1, "song": 'a, "b".wav'}])
    assert read(path) == [{"step": "1", "song": 'a, "b".wav'}]
