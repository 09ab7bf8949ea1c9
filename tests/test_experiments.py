"""Every experiment says what it asks, is encoded for by the commands it names, and takes a step on the tiny model."""

import re
import shlex
from pathlib import Path

import fabricate
import pytest

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
PARTS = ("Question", "Run", "Look for")
QUICK = "v1_fork"
SOURCES = Sources((PACKAGED,))


def header(file: Path) -> dict[str, list[str]]:
    """Question, commands and what to look for, by the lines of a file's first comment."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in file.read_text().split("\n"):
        started = re.match(r"# (\w[\w ]*): (.*)", line)
        if started and started[1] in PARTS:
            current = found.setdefault(started[1], [])
            current.append(started[2])
        elif line.startswith("#   "):
            current.append(line.removeprefix("#   "))
        else:
            break
    return found


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_an_experiment_says_what_it_asks_and_how_its_songs_are_encoded(file):
    said = header(file)
    assert tuple(said) == PARTS and said["Question"][-1].endswith("?")
    *before, last = said["Run"]
    assert last.startswith(f"acetrain train cache=CACHE experiment={file.stem}") and len(before) <= 1
    for command in before:
        name, job, *arguments = shlex.split(command)
        assert (name, job) == ("acetrain", "preprocess")
        Composer(job, SOURCES).compose([read(argument) for argument in arguments]).build()


def test_the_readme_has_a_row_for_every_experiment():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in EXPERIMENTS:
        said = header(file)
        commands = "<br>".join(f"`{command}`" for command in said["Run"])
        row = f"| `{file.stem}` | {' '.join(said['Question'])} | {commands} | {' '.join(said['Look for'])} |"
        assert row in readme.split("\n"), row
    rows = re.findall(r"(?m)^\| `(\w+)` \| .*experiment=", readme)
    assert sorted(rows) == [file.stem for file in EXPERIMENTS]


NAMES = [pytest.param(file.stem, marks=() if file.stem == QUICK else pytest.mark.slow) for file in EXPERIMENTS]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=5)
    quick = ["max_steps=1", "schedule.warmup=0", "logger=csv", "trainer.accelerator=cpu", "adapter.rank=2"]
    assert main(["train", "cache=cache", "out_dir=run", f"experiment={name}", *quick]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
