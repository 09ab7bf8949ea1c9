"""A SLURM cluster on this machine: two nodes with two cores and two pretended GPUs each, preemption and accounting.

`python tests/slurm/cluster.py` starts one and keeps it until Ctrl-C; the tests have one of their own.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "setpriv")
PATIENCE = 60.0
"""Seconds that a daemon may take to answer."""

ACCOUNTING = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={database_port}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=accounting
"""

CLUSTER = """
ClusterName=testing
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={database_port}
AccountingStoragePass={folder}/munge/socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=30
JobRequeue=1
KillWait=30
MaxArraySize=101
OverTimeLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
PartitionName=low Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=graceful Nodes=ALL MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""

NODE = """
NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs=2 Boards=1 SocketsPerBoard=1 \
CoresPerSocket=2 ThreadsPerCore=1 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
"""


def missing() -> list[str]:
    """Programs that a cluster needs and this machine has not."""
    found = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return [name for name in DAEMONS if shutil.which(name, path=found["PATH"]) is None]


@dataclass
class Cluster:
    """The daemons, all in the foreground as children of this process: they end when it does, whatever ends it."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to speak with this cluster and with no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        path = f"{Path(sys.executable).parent}:{kept['PATH']}:/usr/sbin:/sbin"
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def ask(self, *command: str, check: bool = True) -> str:
        """What a command, such as `squeue -h`, says on stdout."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self) -> None:
        """Start every daemon, each once the one it needs answers. Raises RuntimeError for one that does not."""
        for name in ("munge", "state", "spool", "log", "database"):
            (self.folder / name).mkdir(parents=True)
        self.port = _free_ports(len(NODES) + 2)
        self._configure()
        self._start_munge()
        self._start_accounting()
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self._until("two idle nodes", lambda: self.ask("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D") == "2")

    def stop(self) -> None:
        """Cancel what runs, end the daemons in the opposite order, and remove the folder."""
        if "slurmctld" in self.daemons:
            self.ask("scancel", "--full", f"--user={getpass.getuser()}", check=False)
            self._until("an empty queue", lambda: not self.ask("squeue", "-h", check=False))
        for name in reversed(list(self.daemons)):
            self.end(name)
        shutil.rmtree(self.folder.parent)

    def start_controller(self) -> None:
        """Start slurmctld, which goes on from its saved state where it has one."""
        self._start("slurmctld", "slurmctld", "-D")
        self._until("the controller", lambda: "is UP" in self.ask("scontrol", "ping", check=False))

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        self._start(name, "slurmd", "-D", "-N", name)

    def end(self, name: str) -> None:
        """End a daemon: `slurmctld`, or a node by its name."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        places = {
            "folder": self.folder,
            "host": host,
            "controller_port": self.port,
            "database_port": self.port + 1,
            "user": getpass.getuser(),
        }
        nodes = [NODE.format(name=name, host=host, port=self.port + 2 + i).strip() for i, name in enumerate(NODES)]
        first, partitions, rest = CLUSTER.format(**places).partition("PartitionName")
        (self.folder / "slurm.conf").write_text("\n".join([first.strip(), *nodes, partitions + rest]))
        gpus = [f"NodeName={name} Name=gpu File=/dev/tty[0-1]" for name in NODES]  # any two devices do
        (self.folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        accounting = self.folder / "slurmdbd.conf"
        accounting.write_text(ACCOUNTING.format(**places))
        accounting.chmod(0o600)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.chmod(0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = {"key-file": key, "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={folder / file}" for name, file in files.items()]
        self._start("munged", "munged", "--foreground", "--force", "--num-threads=2", *options)
        self._until("munge", (folder / "socket").exists)

    def _start_accounting(self) -> None:
        data, server = self.folder / "database", self.folder / "database.socket"
        install = [
            "mariadb-install-db",
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={data}",
            "--skip-test-db",
        ]
        self.ask(*install, "--auth-root-authentication-method=normal")
        sizes = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--skip-networking"]
        files = [f"--datadir={data}", f"--socket={server}", f"--pid-file={self.folder / 'database.pid'}"]
        self._start("mariadbd", "mariadbd", "--no-defaults", f"--user={getpass.getuser()}", *files, *sizes)
        create = ["mariadb", "--no-defaults", "--user=root", f"--socket={server}", "-e", "create database accounting"]
        self._until("the database", lambda: _done(create))
        self._start("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(server))
        register = ["sacctmgr", "-i", "add", "cluster", "testing"]
        self._until("accounting", lambda: _done(register, self.environment))

    def _start(self, name: str, *command: str, **variables: str) -> None:
        log = (self.folder / "log" / f"{name}.out").open("ab")
        self.daemons[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.environment | variables,
            start_new_session=True,
        )
        log.close()

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > end:
                logs = "".join(self._log(name) for name in ended or self.daemons)
                raise RuntimeError(f"waited in vain for {what}; ended: {ended}\n{logs}")
            time.sleep(0.2)

    def _log(self, name: str) -> str:
        files = self.folder.glob(f"log/*{name}*")
        return "".join(f"--- {file.name}\n{file.read_text(errors='replace')[-2000:]}\n" for file in files)


def _done(command: list[str], environment: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    for first in range(21000, 29000, 20):
        if all(_is_free(first + offset) for offset in range(count)):
            return first
    raise RuntimeError("no free ports between 21000 and 29000")


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) != 0


def new_folder() -> Path:
    """A folder for a cluster; its path is short, as those of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munge wants its socket to be within reach of all
    return folder / "cluster"


if __name__ == "__main__":
    running = Cluster(new_folder())
    for number in (signal.SIGINT, signal.SIGTERM):  # the background of a shell ignores the first
        signal.signal(number, signal.default_int_handler)
    running.start()
    print(f"export SLURM_CONF={running.folder / 'slurm.conf'}", flush=True)
    try:
        running.daemons["slurmctld"].wait()
    except KeyboardInterrupt:
        running.stop()
