"""Reports come back as they were written, and nothing else is taken for one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acetrain.analysis import figures, listing
from acetrain.analysis.report import CSV, JSON, Bin, Module, Report
from acetrain.errors import Refused


def report(intervals: bool = True, names: tuple[str, ...] = ("layers.0.mlp.up_proj", "time_embed.linear_1")) -> Report:
    modules = []
    for place, name in enumerate(names):
        score = (-1) ** place * (place + 1 / 3)
        interval = (score - 0.1, score + 0.2) if intervals else None
        known: dict[str, Any] = {
            "score": score,
            "standard_error": 0.1 if intervals else None,
            "interval": interval,
            "spectrum": (0.5, 0.1 + place, -1e-17),
            "baselines": {"fisher": 7.0 - place, "nfn": 1.1},
        }
        modules.append(Module(**known, name=name, shape=(8, 4), method="exact", bins=(Bin(**known), Bin(**known))))
    over = "songs" if intervals else "draws"
    return Report("1.0", "d" * 64, "m" * 64, {"seed": 0}, 8, over, (4, 4), 1, (0.0, 0.4, 1.0), tuple(modules))


def test_a_report_comes_back_to_the_bit(tmp_path: Path) -> None:
    for written in (report(), report(intervals=False)):
        written.write(tmp_path)
        assert Report.read(tmp_path / JSON) == written


def test_the_table_has_a_row_a_module(tmp_path: Path) -> None:
    report().write(tmp_path)
    head, *rows = (tmp_path / CSV).read_text().splitlines()
    assert head.split(",")[:8] == ["name", "outputs", "inputs", "method", "score", "standard_error", "low", "high"]
    assert head.endswith("fisher,nfn,score_bin0,score_bin1,sigma_1,sigma_2,sigma_3")
    assert len(rows) == 2 and all(row.count(",") == head.count(",") for row in rows)
    assert rows[0].startswith("layers.0.mlp.up_proj,8,4,exact,0.3333333333333333,")


BROKEN: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("schema", lambda content: content.update(schema=2), r"has schema version 2, this version reads 1; measure again"),
    ("no schema", lambda content: content.pop("schema"), r"is not a report of acetrain sensitivity \('schema'\)"),
    ("no modules", lambda content: content.pop("modules"), r"is not a report .*'modules'"),
    ("a field too many", lambda content: content.update(more=1), r"is not a report .*fields do not match"),
    ("a field too few", lambda content: content.pop("data"), r"is not a report .*fields do not match"),
    ("text for a score", lambda content: content["modules"][0].update(score="x"), r"is not a report .*'x'"),
    ("a shape of three", lambda content: content["modules"][0].update(shape=[1, 2, 3]), r"is not a report .*unpack"),
    ("modules of text", lambda content: content.update(modules=["a"]), r"is not a report"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_is_no_report_is_refused_in_a_line(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    report().write(tmp_path)
    content = json.loads((tmp_path / JSON).read_text())
    change(content)
    (tmp_path / JSON).write_text(json.dumps(content))
    refused(tmp_path / JSON, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_files_that_are_no_objects_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / JSON).write_text(text)
    refused(tmp_path / JSON, "is not a report of acetrain sensitivity")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / JSON, "is not a report .*No such file")


def refused(path: Path, message: str) -> None:
    with pytest.raises(Refused) as caught:
        Report.read(path, "targets.report")
    assert str(caught.value).startswith(f"targets.report: {path} ") and len(str(caught.value).splitlines()) == 1
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    "names", [("layers.0.mlp.up_proj",), ("condition_embedder",), ("layers.0.mlp.up_proj", "time_embed.linear_1")]
)
def test_pictures_are_drawn_of_any_modules(names: tuple[str, ...], tmp_path: Path) -> None:
    for intervals in (True, False):
        pictures = figures.draw(report(intervals, names), tmp_path)
        assert {path.name for path in pictures.values()} == {"heat_map.png", "spectra.png"}
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.values())


def test_the_heat_map_marks_what_may_be_zero_and_has_a_panel_a_bin() -> None:
    figure = figures.heat_map(report())
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["all timesteps", "t 0.00 to 0.40", "t 0.40 to 1.00"]
    dots = [len(axes.lines) for axes in figure.axes if axes.images]
    assert sum(dots) == 3  # the second module's score is below 0 in all three panels


def test_the_listing_ranks_by_score_and_says_what_intervals_are_over(capsys: pytest.CaptureFixture[str]) -> None:
    listing.show(report())
    printed = capsys.readouterr().out
    assert printed.index("layers.0.mlp.up_proj") < printed.index("time_embed.linear_1")
    assert "1 of 2 scores are above 0 with their 95 % interval" in printed
    listing.show(report(intervals=False))
    printed = capsys.readouterr().out
    assert "say nothing of others" in printed and "no intervals" in printed


def test_ranks_are_those_before_the_first_that_is_not_above_zero() -> None:
    assert [listing.ranks(values) for values in ((2.0, 1.0, -0.1, 0.3), (), (0.0,), (1.0, 0.5))] == [2, 0, 0, 2]
