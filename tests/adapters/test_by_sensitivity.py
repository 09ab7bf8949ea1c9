"""Modules and ranks that a report of sensitivity gives: shared out of one budget, and refused where they do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from fabricate import cache
from reports import LAYERS, TINY, written
from runs import QUICK, metrics

from acetrain.acestep.weights import sample_weights
from acetrain.adapters.by_sensitivity import BySensitivity
from acetrain.cli import main
from acetrain.data.cache import Cache
from acetrain.errors import Refused

Q, K, UP = "layers.0.self_attn.to_q", "layers.1.cross_attn.to_k", "layers.2.mlp.up_proj"
SPECTRA = {Q: [4.0, 3.0, 0.1], K: [2.0, 2.5, -1.0], UP: [5.0, 0.0, 0.0], "condition_embedder": [0.0, -0.2]}
PRICE = {name: sum(LAYERS[name]) for name in SPECTRA}


def targets(report: Path | str, budget: float | None, **fields: Any) -> BySensitivity:
    kept: dict[str, Any] = {"include": ["*"], "exclude": [], "force": False, **fields}
    return BySensitivity(**kept, report=str(report), budget=budget)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return written(tmp_path, SPECTRA)


def side_steps(folder: Path, **fields: Any) -> Path:
    """A map as Side-Step writes it, version 2."""
    ranks = {"layers.0.self_attn.q_proj": 64, "layers.3.mlp.down_proj": 16}
    content = {
        "version": 2,
        "model_variant": "tiny",
        "num_hidden_layers": 4,
        "rank_budget": {"min": 16, "max": 128},
        "target_modules": ["q_proj", "down_proj"],
        "rank_pattern": ranks,
        "alpha_pattern": {name: 2 * rank for name, rank in ranks.items()},
        "modules": [{"name": "decoder.layers.0.self_attn.q_proj", "fisher_score": 1.0, "assigned_rank": 64}],
        "excluded_modules": ["decoder.layers.1.self_attn.q_proj"],
    }
    file = folder / "fisher_map.json"
    file.write_text(json.dumps(content | fields))
    return file


def test_ranks_go_where_the_squared_value_is_largest_for_its_price(report: Path) -> None:
    """By price: UP 25 first, then Q's 16 and 9, then K's 4 and 6.25, which count as 5.125 each, then Q's .01."""
    whole = {Q: 3, K: 2, UP: 1}
    assert targets(report, 1e9).ranks(LAYERS) == whole
    assert targets(report, PRICE[UP] + PRICE[Q] + 1).ranks(LAYERS) == {Q: 1, UP: 1}
    assert targets(report, PRICE[UP] + 2 * PRICE[Q]).ranks(LAYERS) == {Q: 2, UP: 1}
    assert targets(report, PRICE[UP] + 2 * PRICE[Q] + 2 * PRICE[K]).ranks(LAYERS) == {Q: 2, K: 2, UP: 1}


def test_a_share_is_of_the_weights_of_the_candidates(report: Path) -> None:
    weights = sum(rows * columns for rows, columns in (LAYERS[name] for name in SPECTRA))
    count = PRICE[UP] + 2 * PRICE[Q] + 1
    assert targets(report, count / weights).ranks(LAYERS) == targets(report, count).ranks(LAYERS)


def test_modules_come_in_the_models_order_and_those_without_a_rank_are_left_out(report: Path) -> None:
    assert targets(report, 1e9).select(LAYERS) == [Q, K, UP]
    assert targets(report, 1e9, exclude=["mlp"]).select(LAYERS) == [Q, K]
    assert targets(report, 1e9, include=["to_k", "up_proj"]).ranks(LAYERS) == {K: 2, UP: 1}


def test_a_report_is_read_once(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, loads = [], json.loads
    monkeypatch.setattr("json.loads", lambda text: read.append(text) or loads(text))
    found = targets(report, 1e9)
    assert found.ranks(LAYERS) and found.differs("", "", "") and found.select(LAYERS) and len(read) == 1


def test_side_steps_ranks_are_taken_as_they_are_and_only_its_modules(tmp_path: Path) -> None:
    found = targets(side_steps(tmp_path), None)
    assert found.ranks(LAYERS) == {Q: 64, "layers.3.mlp.down_proj": 16}
    assert found.differs("any", "any", "tiny") == ""
    assert found.differs("any", "any", "turbo") == "another model (tiny)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": None}, "targets.budget: must be given for a report"),
        ({"budget": 10.0}, "targets.budget: must be enough for one rank of a module with a signal, got 10.0"),
        ({"include": ["condition_embedder"]}, "targets.budget: must be enough for one rank of a module with a signal"),
        ({"report": ""}, "targets.report: must be the sensitivity.json of acetrain sensitivity, got ''"),
        ({"report": "nowhere.json"}, "targets.report: nowhere.json cannot be read as JSON"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(report: Path, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"report": report, "budget": 1e9, **change}
    with pytest.raises(Refused, match=message):
        targets(**given).select(LAYERS)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_that_is_none_is_refused(report: Path, budget: float) -> None:
    with pytest.raises(Refused, match=r"targets.budget: must be above 0 and finite"):
        targets(report, budget)


def test_a_report_on_other_shapes_is_refused(report: Path) -> None:
    other = LAYERS | {Q: (256, 128)}
    with pytest.raises(
        Refused, match=r"layers.0.self_attn.q_proj is \[128, 128\] in .* and \[256, 128\] in this model"
    ):
        targets(report, 1e9).select(other)


def test_a_report_of_another_version_is_refused(report: Path) -> None:
    report.write_text(json.dumps(json.loads(report.read_text()) | {"schema": 99}))
    with pytest.raises(Refused, match=r"targets.report: .* has schema version 99, this version reads 1"):
        targets(report, 1e9).select(LAYERS)


@pytest.mark.parametrize("rank", ["many", -1, 1.5])
def test_a_map_with_ranks_that_are_none_is_refused(tmp_path: Path, rank: object) -> None:
    file = side_steps(tmp_path, rank_pattern={"layers.0.self_attn.q_proj": rank})
    with pytest.raises(Refused, match=r"gives layers.0.self_attn.q_proj rank"):
        targets(file, None).select(LAYERS)


def test_a_map_of_more_layers_is_refused(tmp_path: Path) -> None:
    file = side_steps(tmp_path, rank_pattern={"layers.23.self_attn.q_proj": 8})
    with pytest.raises(Refused, match=r"gives layers.23.self_attn.q_proj rank 8; there is no such"):
        targets(file, None).select(LAYERS)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=2)


def trained(songs: Path, out: Path, *given: str) -> int:
    own = ["targets=sensitivity", "adapter.rank=4", "adapter.alpha=8", *given]
    return main(["train", f"cache={songs}", f"out_dir={out}", *QUICK, *own])


def own_report(songs: Path, folder: Path) -> Path:
    """A report on these songs and the tiny base."""
    return written(folder, SPECTRA, Cache.open(str(songs)).digest(), sample_weights(TINY.checkpoint, "transformer"))


def test_a_run_trains_those_modules_at_those_ranks_and_one_strength(songs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = own_report(songs, tmp_path / "report")
    assert trained(songs, run, f"targets.report={report}", "targets.budget=1e9", "max_steps=1") == 0
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    names = ["layers.0.self_attn.q_proj", "layers.1.cross_attn.k_proj", "layers.2.mlp.up_proj"]
    assert config["target_modules"] == names
    assert config["rank_pattern"] == dict(zip(names, (3, 2, 1), strict=True))
    assert config["alpha_pattern"] == dict(zip(names, (6, 4, 2), strict=True))


def test_a_report_that_has_moved_lets_the_run_go_on_and_one_that_has_changed_does_not(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, report = tmp_path / "run", own_report(songs, tmp_path / "report")
    assert trained(songs, run, f"targets.report={report}", "targets.budget=1e9", "max_steps=1") == 0
    moved = report.rename(tmp_path / "moved.json")
    assert trained(songs, run, f"targets.report={moved}", "targets.budget=1e9", "max_steps=2") == 0
    assert [row["step"] for row in metrics(run)] == ["1", "2"]
    capsys.readouterr()
    less = f"targets.budget={PRICE[UP] + PRICE[Q]}"
    assert trained(songs, run, f"targets.report={moved}", less, "max_steps=3") == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_a_report_of_other_songs_is_refused_or_said_and_recorded(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, report = tmp_path / "run", written(tmp_path / "report", SPECTRA)
    given = [f"targets.report={report}", "targets.budget=1e9", "max_steps=1"]
    assert trained(songs, run, *given) == 2
    assert "was measured on another model and another data set" in capsys.readouterr().err
    assert not run.exists()
    assert trained(songs, run, *given, "targets.force=true") == 0
    said = "targets.force: the report was measured on another model and another data set, and is taken all the same"
    assert said in capsys.readouterr().err
    assert said in (run / "advice.txt").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["adapter=oft"], "adapter: must be lora, rslora or dora where targets give ranks, got OFT"),
        (["adapter.ranks={q_proj: 4}"], "adapter.ranks: must be empty where targets give the ranks"),
    ],
)
def test_an_adapter_that_cannot_take_ranks_is_refused(
    songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    report = own_report(songs, tmp_path / "report")
    quick = [text for text in QUICK if not text.startswith("adapter.")]
    arguments = [f"cache={songs}", f"out_dir={tmp_path / 'run'}", *quick, "targets=sensitivity", *given]
    assert main(["train", *arguments, f"targets.report={report}", "targets.budget=1e9"]) == 2
    assert message in capsys.readouterr().err
