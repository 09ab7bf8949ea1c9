"""The planted signal of `docs/figures`: what the page says of it is what it gives."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("agg")

from docs.figures import planted_signal as planted

FIGURES = Path(planted.__file__).parent
KEPT = json.loads((FIGURES / "planted_signal.json").read_text())["strengths"]


def test_the_committed_figures_show_no_bias_and_coverage() -> None:
    for strength in planted.STRENGTHS:
        found = KEPT[f"{strength:g}"]
        for method in planted.METHODS:
            moments = found["estimates"][f"split-half, {method}"]
            assert abs(moments["bias"]) < 3 * moments["error of the bias"]
            assert 0.92 <= found["coverage"][method] <= 1.0
        assert found["estimates"]["fisher"]["bias"] > 10 * found["estimates"]["naive"]["bias"] > 1000


@pytest.mark.slow
def test_a_few_seeds_again_agree_with_them() -> None:
    trials = [planted.trial(seed, 1.0) for seed in range(20)]
    found = planted.summary(trials, 1.0)
    for name, moments in found["estimates"].items():
        kept = KEPT["1"]["estimates"][name]
        assert moments["mean"] == pytest.approx(kept["mean"], abs=4 * kept["sd"] / 20**0.5)
    assert min(found["coverage"].values()) >= 0.75
    for name in ("cross-validated, exact", "cross-validated, sketch"):
        assert found["spectrum"][name] == pytest.approx(KEPT["1"]["spectrum"][name], abs=0.6)
    assert len(planted.draw({1.0: trials}, {1.0: found}).axes) == 3
