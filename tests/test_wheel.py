"""An installed wheel, used from another folder, has its options and the tiny model with it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the working tree, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_it_ships_every_option_and_the_tiny_weights(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "experiments", "sweeps"):
        for file in (ROOT / folder).rglob("*.yaml"):
            assert f"acetrain/_configs/{file.relative_to(ROOT).as_posix()}" in names
    for file in (ROOT / "src/acetrain/acestep/tiny/weights").rglob("*.*"):
        assert file.relative_to(ROOT / "src").as_posix() in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks")) or "__pycache__" in name]


def test_its_command_finds_them_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    away = tmp_path / "away"
    away.mkdir()

    def run(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(site)}
        command = [str(site / "bin" / "acetrain"), *arguments]
        done = subprocess.run(command, cwd=away, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    assert "adapter.rank: int = " in run("train", "--help")
    assert str(site) in run("explain", "adapter=lora")
    assert "rank" in run("train", "experiment=short_run", "sweep=rank", "--cfg")
    assert list(away.iterdir()) == []
