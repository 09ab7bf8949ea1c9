"""Every command in the guides runs, in order, in one folder, on a checkpoint of tiny's size."""

import re
import shlex
from pathlib import Path

import pytest
from checkpoints import like_turbo, write_official

from acetrain.cli import main

DOCS = Path(__file__).parents[1] / "docs"
QUICKER = {
    "train": ["max_steps=2", "schedule.warmup=0", "logger=csv"],
    "generate": ["duration=1", "steps=2"],
    "preprocess": [],
    "sensitivity": ["logger=csv"],
    "prune": ["points=2", "each_module=false"],
    "compare": [],
    "inspect": [],
    "export": [],
    "combine": [],
    "scan": [],
    "synthesize": ["max_seconds=6"],
    "explain": [],
    "adopt": [],
    "sweep": [],
    "sync": [],
}
"""What is added to a job's commands so that they do not take an evening."""


def commands(page: Path) -> list[list[str]]:
    """The `$ acetrain` lines of the page's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[2:] for block in blocks for line in block.splitlines() if line.startswith("$ acetrain ")]


def quicker(arguments: list[str]) -> list[str]:
    """What is added to a command, but for a logger where it says something of it."""
    logs = any(argument.startswith("logger") for argument in arguments)
    searches = any(argument.startswith("sweep=optuna") for argument in arguments)
    early = ["search.pruner.min_steps=1", "trainer.validate_every=1"] if searches else []
    return [change for change in QUICKER[arguments[0]] if not (logs and change.startswith("logger="))] + early


PAGES = [page for page in sorted(DOCS.glob("*.md")) if commands(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_guide_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ACESTEP_CHECKPOINTS_DIR", raising=False)
    source = like_turbo(tmp_path / "source")
    write_official(tmp_path / "checkpoints", "acestep-v15-turbo", source=source)
    given = commands(page)
    if ["synthesize", "out_dir=songs", "count=6"] not in given:
        assert main(["synthesize", "out_dir=songs", "count=6", "max_seconds=6"]) == 0
    for arguments in given:
        code = main([*arguments, *quicker(arguments)])
        told = capsys.readouterr()
        assert code == 0, f"{shlex.join(arguments)}: {told.err or told.out}"


def test_the_guides_have_commands():
    assert {page.stem for page in PAGES} >= {"getting_started", "data"}
