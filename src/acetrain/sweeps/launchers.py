"""Where the jobs of a multirun run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from acetrain.errors import Refused, require

if TYPE_CHECKING:
    from acetrain.command.multirun import Multirun
    from acetrain.command.outcome import Outcome
    from acetrain.command.searching import Searching
    from acetrain.sweeps.study import Trials


@dataclass
class Launcher:
    """A way to run the jobs of a multirun."""

    packs: ClassVar[bool] = False
    """Whether several jobs can go side by side in one process."""

    def check(self) -> None:
        """Raise Refused where jobs cannot be run this way here."""

    def check_jobs(self, multirun: "Multirun", indices: Sequence[int]) -> None:
        """Raise Refused where these jobs, which have been checked by themselves, cannot be run this way."""

    def launch(self, multirun: "Multirun", indices: Sequence[int]) -> "list[Outcome]":
        """Run these jobs and tell how each ended; one that fails stops no other."""
        raise NotImplementedError

    @property
    def waits(self) -> bool:
        """Whether what is launched has ended when the launcher returns."""
        return True

    def check_search(self, searching: "Searching") -> None:
        """Raise Refused where a search, whose jobs have been checked, cannot be run this way."""
        raise Refused(
            "launcher: must be here or local for a search; the tasks of an array that start its command share it"
        )

    def search(self, searching: "Searching", trials: "Trials") -> None:
        """Have processes take part in a search until no trial is left."""
        raise NotImplementedError


@dataclass
class Here(Launcher):
    """One after another, or in packs, in this process, the model freed between them unless the next job shares it."""

    packs: ClassVar[bool] = True

    def check_jobs(self, multirun: "Multirun", indices: Sequence[int]) -> None:
        if multirun.settings.sweep.pack > 1 and multirun.planned[0].record is None:
            raise Refused(f"sweep.pack: must be 1 for {multirun.composer.job}, only trainings go side by side")

    def launch(self, multirun: "Multirun", indices: Sequence[int]) -> "list[Outcome]":
        if multirun.settings.sweep.pack > 1:
            from acetrain.command.packing import launch_packed

            return launch_packed(multirun, indices)
        from acetrain.command.through_hydra import launch

        return launch(multirun, indices, ["hydra/launcher=basic"])

    def check_search(self, searching: "Searching") -> None:
        pass

    def search(self, searching: "Searching", trials: "Trials") -> None:
        searching.work(trials)


@dataclass
class Local(Launcher):
    """Several at a time on this machine, each in a process with GPUs of its own; their output is in log files."""

    jobs: int
    """Jobs at a time. Where there are GPUs, each gets its own: no more jobs than `trainer.devices` go into."""

    def __post_init__(self) -> None:
        require(self.jobs >= 1, "launcher.jobs", "at least 1", self.jobs)

    def check_jobs(self, multirun: "Multirun", indices: Sequence[int]) -> None:
        from acetrain.sweeps.local import gpus, slots

        if multirun.planned[0].record is None:
            raise Refused(f"launcher: must be here for {multirun.composer.job}, only trainings run side by side")
        slots(self.jobs, multirun.job(indices[0]).trainer.devices, gpus())

    def launch(self, multirun: "Multirun", indices: Sequence[int]) -> "list[Outcome]":
        from acetrain.sweeps.local import side_by_side

        return side_by_side(multirun, indices, self.jobs)

    def check_search(self, searching: "Searching") -> None:
        from acetrain.sweeps.local import gpus, slots

        slots(min(self.jobs, searching.search.trials), searching.devices, gpus())

    def search(self, searching: "Searching", trials: "Trials") -> None:
        from acetrain.sweeps.workers import together

        together(searching, trials, self.jobs)
