"""The guide to adding options, followed in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


def blocks(heading: str) -> list[str]:
    """The blocks of code of a part of the page."""
    part = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    return [
        textwrap.dedent("   " + block.removeprefix("   ")) for block in re.findall(r"```\w*\n(.*?)```", part, re.DOTALL)
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project."""
    for name in ("src", "conf", "experiments", "sweeps", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(project: Path, *arguments: str) -> str:
    """What a module prints when it is run in the project, which must go well."""
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(project: Path, word: str) -> int:
    printed = run(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", word, "tests/test_laws.py")
    found = re.search(r"(\d+) passed", printed)
    assert found, printed
    return int(found[1])


@pytest.mark.slow
def test_the_steps_add_an_adapter_that_obeys_the_laws(project: Path) -> None:
    option, registered, setting, line, defaults = blocks("Adding an adapter")
    package = project / "src/acetrain"
    (package / "adapters/miss.py").write_text(option)
    layers, schemas = package / "adapters/layers.py", package / "schemas.py"
    layers.write_text(
        layers.read_text().replace(
            "from torch import", "from peft.tuners.miss.layer import MissLayer\nfrom torch import", 1
        )
        + f"\n\n{registered}"
    )
    files = package / "adapters/files/peft.py"
    files.write_text(files.read_text().replace('    "IA3": (', f'    {setting}    "IA3": (', 1))
    table = schemas.read_text().replace('"adapter": {\n', f'"adapter": {{\n        {line}', 1)
    schemas.write_text(
        table.replace("\nfrom acetrain.", "\nfrom acetrain.adapters.miss import MiSS\nfrom acetrain.", 1)
    )
    (project / "conf/adapter/miss.yaml").write_text(defaults)
    assert "Matrix shard sharing" in run(project, "acetrain", "explain", "adapter=miss")
    assert passed(project, "miss and all_linear") >= 6


@pytest.mark.slow
def test_the_steps_add_a_set_of_targets_that_every_adapter_takes(project: Path) -> None:
    defaults, commands = blocks("Adding a set of targets")
    (project / "conf/targets/values_and_outputs.yaml").write_text(defaults)
    assert "values_and_outputs" in run(project, "acetrain", "explain", "targets")
    assert "targets=values_and_outputs" in commands
    assert passed(project, "values_and_outputs and lora") >= 6
