"""SLURM's queue: whether it takes a job, and what has become of those in it. Needs no accounting."""

import getpass
import math
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from acetrain.errors import Refused

TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?|(?:(?P<h>\d+):(?=\d+:))?(?P<m>\d+)(?::(?P<s>\d+))?)"
)
"""How SLURM writes a time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "REVOKED")
)
"""States that a job stays in."""
RUNNING = frozenset(("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"))


@dataclass(frozen=True)
class Place:
    """Where a job of SLURM is."""

    state: str
    """SLURM's word for it, such as PENDING."""
    reason: str
    """Why it does not run, or where it does."""

    @property
    def ended(self) -> bool:
        """Whether it is over for good; one that is put back into the queue is not."""
        return self.state in ENDED

    @property
    def running(self) -> bool:
        return self.state in RUNNING


def minutes_of(time: str) -> int | None:
    """A time as SLURM writes it in minutes, rounded up; None for one without end, and for what is none."""
    found = TIME.fullmatch(time)
    if found is None:
        return None
    read = {key: int(value or 0) for key, value in found.groupdict().items()}
    hours = read["days"] * 24 + read["dh"] + read["h"]
    minutes, seconds = read["dm"] + read["m"], read["ds"] + read["s"]
    return -(-((hours * 60 + minutes) * 60 + seconds) // 60)


def check_installed() -> None:
    """Raise Refused where jobs cannot be submitted from here."""
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise Refused("launcher: slurm needs hydra-submitit-launcher: pip install 'acetrain[slurm]'")
    for program in ("sbatch", "srun", "squeue"):
        if shutil.which(program) is None:
            raise Refused(f"launcher: slurm needs SLURM's commands, there is no {program} on the PATH")


def check_accepted(flags: Mapping[str, str]) -> None:
    """Raise Refused with SLURM's own reason where it would not take a job with these options of sbatch."""
    command = ["sbatch", "--test-only", *(f"--{name}={value}" for name, value in flags.items()), "--wrap=true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines()]
        reason = next((line for line in said if line and not line.startswith("Batch job submission")), "")
        reason = reason.removeprefix("allocation failure: ") or f"exit code {done.returncode}"
        asked = " ".join(f"{name}={value}" for name, value in flags.items())
        raise Refused(f"launcher: SLURM takes no such job: {reason}\n{asked}")


def check_time(partition: str, minutes: int) -> None:
    """Raise Refused where a partition, the default one if empty, lets no job run so long: it would wait for ever."""
    command = ["sinfo", "--noheader", "--format=%P|%l"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    limits = dict(line.strip().split("|") for line in said.splitlines() if line.count("|") == 1)
    default = next((name for name in limits if name.endswith("*")), "")
    names = [name for name in partition.split(",") if name] or [default.removesuffix("*")]
    known = {name.removesuffix("*"): minutes_of(limit) for name, limit in limits.items()}
    longest = [known.get(name) or math.inf for name in names]
    if max(longest) < minutes:
        shown = limits.get(names[0]) or limits[f"{names[0]}*"]
        raise Refused(
            f"launcher.time: must be at most {shown}, the limit of partition {names[0]}, got {minutes} minutes"
        )


def places() -> dict[str, Place] | None:
    """Where this user's jobs are, by their ids, elements of arrays as `12_3`; None where the controller is away.

    SLURM forgets jobs that have ended a few minutes before: what is not there has ended.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T|%r|%N"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    rows = [re.split(r"\|", line.strip(), maxsplit=3) for line in done.stdout.splitlines() if line.count("|") >= 3]
    return {job: Place(state, node if state in RUNNING else reason) for job, state, reason, node in rows}


def is_there() -> bool:
    """Whether this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


def is_running(job: str) -> bool:
    """Whether a job is neither being cancelled nor requeued, nor past its limit, as it is while it is only warned."""
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING"
