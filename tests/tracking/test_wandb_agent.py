"""W&B's own `wandb sweep` and `wandb agent` with a controller of ours: the run they start is an `acetrain train`."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fabricate
import pytest
import yaml
from wandb_server import Server

from acetrain.composition.sources import PACKAGED

FILES = sorted((PACKAGED / "sweeps" / "wandb").glob("*.yaml"))
SWEEP, RUN = "abcd1234", "run00001"
QUICK = {"max_steps": 2, "trainer": "cpu", "trainer.validate_every": 1, "data.workers": 0}


@dataclass
class Controller(Server):
    """A server that takes a sweep and gives out one run of it."""

    config: str = ""
    """The sweep's, as it was sent."""
    states: list[dict[str, bool]] = field(default_factory=list)
    """Run -> whether it runs, of each heartbeat of the agent."""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        query, given = asked["query"], asked.get("variables") or {}
        if "viewer" in query:
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if "upsertSweep" in query:
            self.config = given["config"]
            project = {"id": "1", "name": given["projectName"], "entity": {"id": "1", "name": "me"}}
            return {"upsertSweep": {"sweep": {"name": SWEEP, "project": project}, "configValidationWarnings": []}}
        if "SweepWithRuns" in query:
            sweep = {"id": "1", "name": SWEEP, "state": "RUNNING", "config": self.config, "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "1"}}}
        if "agentHeartbeat" in query:
            self.states.append(json.loads(given["runState"]))
            return {"agentHeartbeat": {"agent": {"id": "1"}, "commands": json.dumps(self.commands())}}
        return super().answer(asked)

    def commands(self) -> list[dict[str, Any]]:
        if len(self.states) == 1:
            first = {key: one.get("values", [one.get("value", one.get("min"))])[0] for key, one in self.asked.items()}
            values = {key: {"value": value} for key, value in (first | QUICK).items()}
            return [{"type": "run", "run_id": RUN, "program": "acetrain", "args": values}]
        return [] if self.states[-1].get(RUN) else [{"type": "exit"}]

    @property
    def asked(self) -> dict[str, Any]:
        """The sweep's parameters."""
        return yaml.safe_load(self.config)["parameters"]


def wandb(folder: Path, server: Controller, *arguments: str) -> str:
    """Run W&B's command line; returns what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a1b2" * 10, "PATH": path, "HOME": str(folder)}
    command = [sys.executable, "-m", "wandb", *arguments]
    environment = kept | own | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wandb_takes_the_file_and_its_agent_trains(file, tmp_path):
    fabricate.cache(tmp_path / "cache", songs=6)
    with Controller() as server:
        said = wandb(tmp_path, server, "sweep", str(file))
        assert f"Creating sweep with ID: {SWEEP}" in said and "Malformed" not in said
        assert yaml.safe_load(server.config) == yaml.safe_load(file.read_text())
        wandb(tmp_path, server, "agent", f"me/acetrain/{SWEEP}")
    [run] = [folder for folder in (tmp_path / "runs").iterdir() if (folder / "config.yaml").exists()]
    assert (run / "wandb_id").read_text() == RUN, "the controller's run, or it would not hear of it"
    told = [given for given in server.runs if given["name"] == RUN]
    assert told and {given.get("sweep") for given in told} & {SWEEP} and told[0]["jobType"] == "train"
    losses = {row["_step"]: row["val_loss"] for row in server.history[RUN] if "val_loss" in row}
    assert set(losses) == {1, 2}, "what the controller judges by"
    assert server.states[-1].get(RUN) is not True
