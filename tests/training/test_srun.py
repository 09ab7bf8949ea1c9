"""What a run makes of the processes that srun has started."""

import socket
import subprocess

import pytest

from acetrain.errors import Failed, Refused
from acetrain.training.srun import check_tasks, meeting_place

BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}


def step(tasks: int, nodes: int) -> dict[str, str]:
    """The environment of a process of a job's step."""
    counts = {"SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(nodes)}
    return BATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[07-08,11]"} | counts


@pytest.mark.parametrize(
    ("environment", "devices", "nodes"),
    [({}, 4, 2), (BATCH, 4, 1), (step(1, 1), 2, 1), (step(4, 2), 2, 2), (step(4, 2) | {"RANK": "0"}, 8, 1)],
    ids=["no SLURM", "a batch script", "one task of two devices", "four tasks", "torchrun"],
)
def test_processes_that_fit_the_run_are_taken(environment, devices, nodes):
    check_tasks(devices, nodes, environment)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "told"),
    [
        (BATCH, 1, 2, "trainer.nodes: must be 1 within one process of SLURM: start as many with srun, got 2"),
        (step(4, 2), 2, 1, "trainer.nodes: must be 2, the nodes that srun started processes on, got 1"),
        (step(4, 2), 1, 2, "trainer.devices: must be 2, as srun started 4 processes on 2 nodes, got 1"),
    ],
)
def test_processes_that_do_not_are_refused(environment, devices, nodes, told):
    with pytest.raises(Refused) as refusal:
        check_tasks(devices, nodes, environment)
    assert str(refusal.value) == told


@pytest.fixture
def names(monkeypatch):
    """Names that resolve; none at first."""
    known: set[str] = set()

    def getaddrinfo(name, port):
        if name not in known:
            raise socket.gaierror
        return [()]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def said(monkeypatch, answer: str) -> None:
    """Have SLURM say this of a node."""
    done = subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def test_ranks_meet_at_the_first_node(names, monkeypatch):
    names |= {"gpu07", "10.0.0.7"}
    assert meeting_place(step(4, 2)) == "gpu07"
    names.remove("gpu07")
    said(monkeypatch, "NodeName=gpu07 NodeAddr=10.0.0.7 State=IDLE")
    assert meeting_place(step(4, 2)) == "10.0.0.7"
    assert meeting_place(step(4, 1)) == "127.0.0.1"


def test_ranks_that_cannot_meet_say_so(names, monkeypatch):
    said(monkeypatch, "")
    with pytest.raises(Failed, match=r"^MASTER_ADDR: must be set, the name of the first node, gpu07, has no address"):
        meeting_place(step(4, 2))
