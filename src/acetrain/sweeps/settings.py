"""How a multirun goes about its jobs: options of its own beside those of the job."""

from dataclasses import dataclass
from typing import ClassVar

from acetrain.errors import require
from acetrain.sweeps.launchers import Launcher
from acetrain.sweeps.search import Search


@dataclass
class Jobs:
    """What the jobs of a multirun share, and what becomes of one that runs out of memory."""

    share_base: bool
    """Whether jobs that follow one another in a process, and whose base is the same, load it once; their results are
    the same to the bit."""
    pack: int
    """Runs that are trained side by side on one base in this process, by one pass over the songs of all of them; 1
    packs none. The frame budget is then theirs together. Results are those of the runs alone within rounding. Runs that
    cannot be packed, as with dropout in the adapter, train alone, and it is said which."""
    retry_oom: bool
    """Whether a training that runs out of memory is tried again with half the frames a micro-batch, as long as its
    longest song fits into them. That changes no result, and is noted with the job."""

    def __post_init__(self) -> None:
        require(self.pack >= 1, "sweep.pack", "at least 1", self.pack)


@dataclass
class Settings:
    """How the jobs of a multirun, `-m` or `sweep=NAME`, are run; given beside the keys of the job."""

    launcher: Launcher
    sweep: Jobs
    """What its jobs share: `sweep.KEY=VALUE`, or a mapping `sweep` in the sweep's file."""
    search: Search
    """What a search tries, where the sweep's file holds a mapping `search` in place of its grid."""
    dry_run: bool
    """Whether to stop after everything is checked and the table of jobs is printed."""

    choices: ClassVar[dict[str, str]] = {}
    """The option chosen in each group."""

    def __post_init__(self) -> None:
        together = self.sweep.pack == 1 or self.launcher.packs
        require(together, "sweep.pack", "1 unless launcher=here, where jobs share a process", self.sweep.pack)
