"""Commands of this program as an array of jobs, by Hydra's submitit launcher; those that are warned are requeued."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf
from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError

from acetrain.command.outcome import SIGNALLED
from acetrain.errors import Failed
from acetrain.stopping import STOPPING
from acetrain.sweeps.slurm import queue
from acetrain.sweeps.slurm.option import Slurm

NOT_REQUEUED = 255
"""Exit code of a job whose time has been up too often; the largest there is, which `srun` makes its own."""
LAST_TASK = 300
"""Seconds that the other processes of a job have to end after the first: to upload, to draw, to make music."""
REQUEUE = (
    "trap 'case $? in 138|140|143) "
    '[ "$(squeue --noheader --jobs=$SLURM_JOB_ID --format=%T)" = RUNNING ] && scontrol requeue $SLURM_JOB_ID;; '
    "esac' EXIT"
)
"""Line of the job's script: a process that a signal ended before it could heed it has its job requeued as well."""


@dataclass
class Command:
    """A command of this program as submitit's jobs are: something to call, and to call again after a requeue."""

    arguments: tuple[str, ...]

    def __call__(self) -> None:
        """Run it, and leave the process with its exit code. One that a warning ended is handed to submitit, which puts
        the job back into the queue."""
        from acetrain.cli import main

        warned = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        submitits = signal.getsignal(warned)
        code = main(self.arguments)
        sys.stdout.flush()
        first = os.environ.get("SLURM_PROCID", "0") == "0"
        if first and code - SIGNALLED in STOPPING and callable(submitits) and queue.is_running(own_job()):
            try:
                submitits(warned, None)
            except UncompletedJobError as error:
                print(error, flush=True)
                sys.exit(NOT_REQUEUED)
        if code:
            sys.exit(code)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit is to run after a requeue."""
        return DelayedSubmission(self)


class Array(SlurmLauncher):
    """Hydra's launcher with `hydra.launcher.*` as given; jobs are commands, and the waiting is left to others."""

    def submit(self, commands: Sequence[Command]) -> list[str]:
        """Submit all as one array and return their ids. Raises Failed with SLURM's reason."""
        limits = {"slurm_max_num_timeout": self.params["max_num_timeout"], "slurm_python": self.params["python"]}
        executor = submitit.AutoExecutor(cluster="slurm", folder=self.params["submitit_folder"], **limits)
        shared = OmegaConf.structured(BaseQueueConf).keys()
        rest = {key: value for key, value in self.params.items() if key not in NOT_SBATCH}
        executor.update_parameters(**{key if key in shared else f"slurm_{key}": value for key, value in rest.items()})
        try:
            with executor.batch():
                jobs = [executor.submit(command) for command in commands]
            return [job.job_id for job in jobs]
        except FailedJobError as error:
            reason = " ".join(str(error).split())
            raise Failed(f"launcher: SLURM did not take the array: {reason}") from error


NOT_SBATCH = ("max_num_timeout", "python", "submitit_folder")


def array(option: Slurm, folder: Path, name: str, nodes: int, tasks: int) -> Array:
    """The launcher of jobs of so many processes on so many nodes, whose files go into `folder`."""
    standard = OmegaConf.to_container(OmegaConf.structured(SlurmQueueConf(submitit_folder=str(folder), name=name)))
    assert isinstance(standard, dict)
    asked: dict[str, Any] = {
        "partition": option.partition or None,
        "account": option.account or None,
        "qos": option.qos or None,
        "constraint": option.constraint or None,
        "timeout_min": option.minutes,
        "nodes": nodes,
        "tasks_per_node": tasks,
        "cpus_per_task": option.cpus,
        "gpus_per_node": option.gpus * tasks or None,
        "mem_gb": option.memory or None,
        "array_parallelism": option.parallel,
        "signal_delay_s": option.warning,
        "max_num_timeout": option.requeues,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **option.sbatch},
        "setup": [*option.setup, REQUEUE],
        # srun takes neither the cores of its job nor, with Pyxis, an image by itself
        "srun_args": [f"--cpus-per-task={option.cpus}", f"--wait={LAST_TASK}", *option.srun],
        "python": _python(option),
    }
    return Array(**{str(key): value for key, value in standard.items() if key != "_target_"} | asked)


def own_job() -> str:
    """The id of the job that this process is of, without the array."""
    return os.environ.get("SLURM_JOB_ID", "")


def _python(option: Slurm) -> str | None:
    python = option.python or ("python3" if option.container else "")
    return " ".join(part for part in (option.container, python) if part) or None
