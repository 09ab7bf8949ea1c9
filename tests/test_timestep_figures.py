"""The figures and the table of `docs/timesteps.md` are of the options as they are."""

from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image
from test_laws import options

mpl.use("agg")

from docs.figures import timesteps as figures

PAGE = (Path(__file__).parents[1] / "docs/timesteps.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def curves():
    return figures.curves()


@pytest.mark.slow
def test_every_density_is_one_and_is_its_closed_form(curves):
    for name, (t, f) in curves["densities"].items():
        if name != "discrete":
            area = sum((b - a) * (x + y) / 2 for a, b, x, y in zip(t, t[1:], f, f[1:], strict=False))
            assert area == pytest.approx(1, abs=1e-2), name
    for t, f in zip(*curves["densities"]["beta"], strict=True):
        assert f == pytest.approx(6 * t * (1 - t), rel=0.02)
    t, f = curves["interval"]["[0.2, 0.7]"]
    assert min(t) >= 0.2 and max(t) <= 0.7 and max(f) > max(curves["densities"]["acestep"][1])


def test_the_page_has_every_option():
    for group in ("timesteps", "loss", "weighting"):
        assert all(f"| `{name}` |" in PAGE for name in options(group))


@pytest.mark.slow
def test_the_figures_have_every_option_and_the_page_their_table(curves):
    assert set(figures.ORDER) == set(options("timesteps")) and set(curves["weightings"]) == set(options("weighting"))
    assert "\n".join(figures.table()) in PAGE


@pytest.mark.slow
def test_the_committed_figures_show_the_present_curves(tmp_path):
    for drawn in figures.write(tmp_path):
        committed = figures.HERE / drawn.name
        assert f"figures/{drawn.name}" in PAGE and committed.stat().st_size < 120_000
        with Image.open(drawn) as ours, Image.open(committed) as theirs:
            assert ours.info["Description"] == theirs.info["Description"], (
                f"run docs/figures/timesteps.py: {drawn.name}"
            )
            assert ours.size == theirs.size
