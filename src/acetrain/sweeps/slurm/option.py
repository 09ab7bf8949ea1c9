"""What the jobs of a sweep ask of SLURM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acetrain.errors import require
from acetrain.sweeps.launchers import Launcher
from acetrain.sweeps.slurm.queue import minutes_of

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun
    from acetrain.command.outcome import Outcome
    from acetrain.command.searching import Searching
    from acetrain.sweeps.study import Trials


@dataclass
class Slurm(Launcher):
    """An array of jobs in the queue of a SLURM cluster, through Hydra's submitit launcher; a job that is preempted or
    whose time is up goes back into the queue and goes on from its checkpoint."""

    partition: str
    """Partition; empty for the cluster's default."""
    account: str
    """Account that is charged; empty for the user's default."""
    qos: str
    """Quality of service; empty for the default."""
    constraint: str
    """Features that nodes must have, such as `h100|h200`; empty for none."""
    time: str
    """Longest time that a job runs before it goes back into the queue, as SLURM writes it: minutes, HH:MM:SS,
    D-HH:MM:SS."""
    gpus: int
    """GPUs of each process of a job; 0 asks for none."""
    cpus: int
    """CPU cores of each process: those that load data and one more."""
    memory: int
    """GB of memory of a job on each node; 0 leaves it to the cluster."""
    parallel: int
    """Jobs of the array that run at a time; of a search, jobs that take part in it."""
    nodes: int | None
    """Nodes of each job; null is `trainer.nodes`, which it must be."""
    tasks: int | None
    """Processes of a job on each of its nodes; null is `trainer.devices`, which it must be."""
    setup: list[str]
    """Lines of the shell that run in each job before its processes start, such as `module load cuda`."""
    container: str
    """Command that stands before Python in each process, such as `apptainer exec --nv image.sif`; empty for none."""
    python: str
    """Python in the job; empty for the one that submits, or within a container for `python3`."""
    srun: list[str]
    """Further arguments of srun, such as `--container-image=...` of Pyxis."""
    sbatch: dict[str, str]
    """Further options of sbatch by their long names, such as `reservation`, `exclude`, `mail-user`."""
    warning: int
    """Seconds before its time is up at which a job is warned, so that it writes its checkpoint: more than a step
    takes. SLURM may warn up to a minute earlier."""
    requeues: int
    """Times a job goes back into the queue because its time is up; those because of preemptions are not counted."""
    wait: bool
    """Whether the command waits for the jobs; false returns once they are submitted."""
    poll: float
    """Seconds between looks at the queue while it waits."""

    def __post_init__(self) -> None:
        for key in ("cpus", "parallel", "warning"):
            require(getattr(self, key) >= 1, f"launcher.{key}", "at least 1", getattr(self, key))
        for key in ("nodes", "tasks"):
            given = getattr(self, key)
            require(given is None or given >= 1, f"launcher.{key}", "at least 1, or null", given)
        for key in ("gpus", "memory", "requeues"):
            require(getattr(self, key) >= 0, f"launcher.{key}", "at least 0", getattr(self, key))
        require(self.poll > 0, "launcher.poll", "above 0 seconds", self.poll)
        require(bool(minutes_of(self.time)), "launcher.time", "minutes, HH:MM:SS or D-HH:MM:SS", self.time)
        for key in self.sbatch:
            ours = "none that launcher.* sets or the launcher needs itself"
            require(key.replace("_", "-") not in OURS, "launcher.sbatch", ours, key)

    @property
    def minutes(self) -> int:
        """`time` in minutes, rounded up."""
        return minutes_of(self.time) or 0

    def flags(self, nodes: int, tasks: int) -> dict[str, str]:
        """Options of sbatch, by their long names, for jobs of so many processes on so many nodes."""
        asked = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "time": str(self.minutes),
            "nodes": str(nodes),
            "ntasks-per-node": str(tasks),
            "cpus-per-task": str(self.cpus),
            "gpus-per-node": str(self.gpus * tasks or ""),
            "mem": f"{self.memory}G" if self.memory else "",
            **self.sbatch,
        }
        return {name: value for name, value in asked.items() if value}

    def check(self) -> None:
        """Raise Refused where there is no SLURM, or it would not take such jobs."""
        from acetrain.sweeps.slurm import queue

        queue.check_installed()
        queue.check_accepted(self.flags(self.nodes or 1, self.tasks or 1))
        queue.check_time(self.partition, self.minutes)

    def check_jobs(self, multirun: "Multirun", indices: Sequence[int]) -> None:
        from acetrain.sweeps.slurm.sweep import shape

        shape(self, multirun, indices)

    def launch(self, multirun: "Multirun", indices: Sequence[int]) -> "list[Outcome]":
        """Submit what is not in the queue yet as one array and, unless told not to, wait until nothing of it is."""
        from acetrain.sweeps.slurm.sweep import launch

        return launch(self, multirun, indices)

    @property
    def waits(self) -> bool:
        return self.wait

    def check_search(self, searching: "Searching") -> None:
        from acetrain.sweeps.slurm.search import check

        check(searching)

    def search(self, searching: "Searching", trials: "Trials") -> None:
        """Have an array of jobs take part in a search, each until no trial is left; `parallel` of them."""
        from acetrain.sweeps.slurm.search import together

        together(self, searching, trials)


OURS = {
    "partition",
    "account",
    "qos",
    "constraint",
    "time",
    "nodes",
    "ntasks-per-node",
    "cpus-per-task",
    "mem",
    "array",
    "output",
    "error",
    "signal",
    "requeue",
    "open-mode",
    "job-name",
}
"""Options of sbatch that have a key of their own, or that jobs rely on."""
