"""The sweep files for W&B's own controller: valid to W&B's own check, and what its agent would start runs."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fabricate
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from acetrain.cli import main
from acetrain.composition.sources import PACKAGED, Sources

FILES = sorted((PACKAGED / "sweeps" / "wandb").glob("*.yaml"))
CHECK = Path(sys.prefix) / "wandb_sweeps" / "sweeps"
QUICK = ["max_steps=1", "logger=csv", "trainer=cpu", "data.workers=0"]


def values(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter, or the ends of its range."""
    if "value" in parameter:
        return [parameter["value"]]
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def command(file: Path, place: int) -> list[str]:
    """The command line that `wandb agent` makes of a file's first (0) or last (-1) values, as its own code does it."""
    sweep = load_sweep_config(str(file))
    assert sweep is not None
    given = {key: {"value": values(parameter)[place]} for key, parameter in sweep["parameters"].items()}
    variables = create_sweep_command_args({"args": given}) | {"env": ["/usr/bin/env"]}
    parts = create_sweep_command(list(sweep["command"]))
    return [word for part in parts for word in (variables[part[2:-1]] if part.startswith("${") else [part])]


@pytest.fixture(scope="module")
def violations():
    """W&B's check; of its package no more is loaded than that, as the rest needs what is not here."""
    if not CHECK.is_dir():
        pytest.skip(f"W&B's check is not in {CHECK}: `make test` puts it into its own environment")
    package = ModuleType("sweeps")
    package.__path__ = [str(CHECK)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sweeps", package)
        yield importlib.import_module("sweeps.config").schema_violations_from_proposed_config
        for name in [name for name in sys.modules if name.startswith("sweeps.")]:
            patch.delitem(sys.modules, name)


def test_there_are_some_of_both_kinds():
    assert {yaml.safe_load(file.read_text())["method"] for file in FILES} == {"grid", "bayes"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wandb_finds_them_valid(violations, file):
    assert violations(load_sweep_config(str(file))) == []


def test_the_check_is_one(violations):
    sweep = load_sweep_config(str(FILES[0]))
    assert sweep is not None
    sweep["parameters"]["seed"] = {"distribution": "uniform", "min": 0}
    assert violations(sweep | {"method": "gird"})


def test_they_are_no_sweeps_of_ours(capsys):
    assert not [name for name in Sources((PACKAGED,)).recipes("sweep") if name.startswith("wandb")]
    assert main(["train", "cache=cache", "sweep=wandb/rank_grid"]) == 2
    assert capsys.readouterr().err.startswith("sweep: there is no 'wandb/rank_grid' in sweeps/")


@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_its_agent_would_start_runs(file, place, tmp_path, monkeypatch, capsys):
    env, program, *arguments = command(file, place)
    assert (env, program, arguments[0]) == ("/usr/bin/env", "acetrain", "train")
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=6)
    assert main([*arguments, *QUICK]) == 0, capsys.readouterr().err
    [run] = [folder for folder in (tmp_path / "runs").iterdir() if folder.name != "sweeps"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    for word in arguments[1:]:
        key, _, raw = word.partition("=")
        found = config
        for name in key.split("."):
            found = found[name]
        wanted = yaml.safe_load(raw)
        if isinstance(found, float) and not str(wanted).startswith("$"):
            assert math.isclose(found, float(wanted), rel_tol=1e-12), word


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_judges_by_what_a_run_logs(file):
    sweep = yaml.safe_load(file.read_text())
    assert sweep["metric"] == {"name": "val_loss", "goal": "minimize"}
    assert sweep["project"] == yaml.safe_load((PACKAGED / "conf/logger/wandb.yaml").read_text())["project"]
