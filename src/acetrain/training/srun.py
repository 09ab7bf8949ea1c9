"""Processes that `srun` has started: whether they are those that a run asks for, and where they meet."""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from acetrain.errors import Failed, require

if TYPE_CHECKING:
    from lightning.fabric.plugins import ClusterEnvironment

LOOPBACK = "127.0.0.1"


def check_tasks(devices: int, nodes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Raise Refused where SLURM runs other processes than `devices` on each of `nodes` machines.

    A single task may start the others of its node itself. Processes that another launcher started are its concern.
    """
    if "SLURM_JOB_ID" not in environment or "RANK" in environment:
        return
    tasks = _tasks(environment)
    if tasks == 1:
        require(nodes == 1, "trainer.nodes", "1 within one process of SLURM: start as many with srun", nodes)
        return
    machines = int(environment["SLURM_STEP_NUM_NODES"])
    require(nodes == machines, "trainer.nodes", f"{machines}, the nodes that srun started processes on", nodes)
    rule = f"{tasks / machines:g}, as srun started {tasks} processes on {machines} nodes"
    require(devices * nodes == tasks, "trainer.devices", rule, devices)


def cluster_environment() -> "ClusterEnvironment | None":
    """How Lightning is to find the other processes of a run inside a job of SLURM; None where it finds out itself.

    Its own requeueing is off: a run that is warned ends with its checkpoint, and who submitted the job requeues it.
    """
    if "SLURM_JOB_ID" not in os.environ or "RANK" in os.environ:
        return None
    from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

    if _tasks(os.environ) == 1:
        return LightningEnvironment()
    os.environ.setdefault("MASTER_ADDR", meeting_place(os.environ))
    return SLURMEnvironment(auto_requeue=False)


def meeting_place(environment: Mapping[str, str]) -> str:
    """An address of the first node that this process can reach. Raises Failed where there is none.

    SLURM's name of a node need not be one that resolves; then SLURM is asked for the node's address.
    """
    first = re.sub(r"\[(\d+)[^]]*\]", r"\1", environment["SLURM_STEP_NODELIST"]).split(",")[0]
    if _resolves(first):
        return first
    if int(environment["SLURM_STEP_NUM_NODES"]) == 1:
        return LOOPBACK
    said = subprocess.run(["scontrol", "-o", "show", "node", first], capture_output=True, text=True, check=False).stdout
    known = re.search(r"NodeAddr=(\S+)", said)
    if known is None or not _resolves(known[1]):
        raise Failed(f"MASTER_ADDR: must be set, the name of the first node, {first}, has no address here")
    return known[1]


def _tasks(environment: Mapping[str, str]) -> int:
    """Processes of this step of the job; 1 in a batch script, which is no step."""
    return int(environment.get("SLURM_STEP_NUM_TASKS", "1")) if "SLURM_STEP_ID" in environment else 1


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror:
        return False
    return True
