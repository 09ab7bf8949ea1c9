"""The guide to adding a density, followed in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project after the guide's three steps."""
    for name in ("src", "conf", "experiments", "sweeps", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    guide = (ROOT / "docs/timesteps.md").read_text(encoding="utf-8").partition("## Adding a density")[2]
    blocks = re.findall(r"```\w+\n(.*?)```", guide, re.DOTALL)
    option, line, defaults = (textwrap.dedent("   " + block.removeprefix("   ")) for block in blocks)
    timesteps, schemas = (tmp_path / "src/acetrain" / name for name in ("flow/timesteps.py", "schemas.py"))
    timesteps.write_text(f"{timesteps.read_text()}\n\n{option}")
    table = schemas.read_text().replace('"timesteps": {\n', f'"timesteps": {{\n        {line}', 1)
    schemas.write_text(
        table.replace("from acetrain.flow.timesteps import ", "from acetrain.flow.timesteps import Kumaraswamy, ")
    )
    (tmp_path / "conf/timesteps/kumaraswamy.yaml").write_text(defaults)
    return tmp_path


@pytest.mark.slow
def test_the_three_steps_add_a_density_that_is_plotted_and_tested(project: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "COLUMNS": "80"}
    explain = [sys.executable, "-m", "acetrain", "explain", "timesteps=kumaraswamy"]
    shown = subprocess.run(explain, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout
    assert "Kumaraswamy density" in shown and "mean 0.457" in shown
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "kumaraswamy"]
    files = ["tests/test_laws.py", "tests/flow/test_timesteps.py"]
    done = subprocess.run([*tests, *files], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 10
