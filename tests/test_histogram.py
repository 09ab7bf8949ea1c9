"""The plots that `acetrain explain timesteps` shows."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fabricate import ACESTEP
from test_laws import SOURCES, option, options

from acetrain.command.describe import anything
from acetrain.command.histogram import INDENT, ROWS, Screen, bars, plot
from acetrain.composition.sources import Sources
from acetrain.flow.timesteps import Discrete

ASCII, BLOCKS = Screen(80, blocks=False), Screen(80, blocks=True)


def test_bars_are_as_high_as_their_counts() -> None:
    assert list(bars([0, 1, 2, 4, 20], " .:#")) == ["    #"] * 4 + [" .:##"]
    eighths = list(bars([count / 8 for count in range(0, 41)], BLOCKS.ramp))
    assert eighths[-1][:10] == " ▁▂▃▄▅▆▇██" and eighths[0][-9:] == " ▁▂▃▄▅▆▇█"


def test_a_plot_shows_where_the_density_lies() -> None:
    *rows, axis, ends, summary = plot(Discrete(3.0, 0.0, 1.0, False, 8), ASCII)
    columns = [index - len(INDENT) for index, cell in enumerate(rows[-1]) if cell == "#"]
    width = len(axis) - len(INDENT)
    assert [(column + 0.5) / width for column in columns] == pytest.approx(
        [0.3, 0.5, 0.643, 0.75, 0.833, 0.9, 0.955, 1.0], abs=1 / width
    )
    assert ends.startswith(f"{INDENT}0 data") and ends.endswith("noise 1") and len(ends) == len(axis)
    assert summary == f"{INDENT}mean 0.735, 90 % of the draws from 0.300 to 1.000"
    assert list(plot(ACESTEP, BLOCKS))[-1].endswith("mean 0.535, 90 % of the draws from 0.239 to 0.826")


@pytest.mark.parametrize("screen", [ASCII, BLOCKS, Screen(60, blocks=True), Screen(300, blocks=False)])
@pytest.mark.parametrize("name", options("timesteps"))
def test_every_density_is_shown_within_the_screen(name: str, screen: Screen) -> None:
    lines = list(plot(option("timesteps", name), screen))
    assert len(lines) == ROWS + 3 and all(len(line) <= screen.columns for line in lines)
    assert "".join(lines).isascii() != screen.blocks
    assert screen.ramp[-1] in lines[0] or torch.tensor([line.count("█") for line in lines]).sum() > 0


def test_a_page_on_a_density_ends_in_its_plot() -> None:
    plain, page = (anything("timesteps=beta", SOURCES, shown) for shown in (None, ASCII))
    assert page == "\n".join([plain, *plot(option("timesteps", "beta"), ASCII)])


def test_an_option_that_leaves_a_value_open_has_no_plot(tmp_path: Path) -> None:
    (tmp_path / "conf/timesteps").mkdir(parents=True)
    text = "defaults:\n  - /schema/timesteps@_here_: uniform\n  - _self_\nshift: 2.0\n"
    (tmp_path / "conf/timesteps/open.yaml").write_text(text)
    sources = Sources((*SOURCES.roots, tmp_path))
    assert anything("timesteps=open", sources, BLOCKS) == anything("timesteps=open", sources)


def test_checking_what_is_to_be_explained_needs_no_torch() -> None:
    code = (
        "import sys; from acetrain.jobs.explain import Explain; Explain('timesteps', []).check(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("encoding", "ascii_only"), [("utf-8", False), ("ascii", True), ("latin-1", True)])
def test_explain_prints_what_the_terminal_can_show(encoding: str, ascii_only: bool) -> None:
    environment = {"PYTHONIOENCODING": encoding, "COLUMNS": "72", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-m", "acetrain", "explain", "timesteps=acestep"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    shown = done.stdout.decode(encoding)
    assert shown.isascii() == ascii_only and "mean 0.535" in shown
    assert max(map(len, shown.splitlines()[-ROWS - 3 :])) < 72
