"""What a job may ask of SLURM, where there is none."""

import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acetrain.cli import main
from acetrain.errors import Refused
from acetrain.sweeps.record import Entry, Record
from acetrain.sweeps.slurm import queue
from acetrain.sweeps.slurm.search import check
from acetrain.sweeps.slurm.submitted import note
from acetrain.sweeps.state import State, standings
from acetrain.sweeps.table import jobs


@pytest.fixture
def said(monkeypatch):
    """What SLURM's programs say, by their name."""
    answers: dict[str, str] = {}

    def run(command, **_):
        if command[0] not in answers:
            return subprocess.CompletedProcess(command, 1, stdout="", stderr="Unable to contact slurm controller")
        return subprocess.CompletedProcess(command, 0, stdout=answers[command[0]], stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(queue.shutil, "which", lambda name: f"/usr/bin/{name}")
    return answers


@pytest.mark.parametrize(
    ("typed", "devices", "message"),
    [
        (["search.storage=postgresql://me:geheim@db/x"], 1, r"search.storage: .* got 'postgresql://me:\*\*\*@db/x'"),
        ([], 2, "trainer.devices: must be 1 in a search on SLURM, got 2"),
        ([], 1, ""),
    ],
)
def test_a_search_submits_no_password_and_no_ranks(typed, devices, message):
    url = "postgresql://me:geheim@db/x"
    searching: Any = SimpleNamespace(devices=devices, arguments=["train", *typed], search=SimpleNamespace(storage=url))
    with pytest.raises(Refused, match=message) if message else nullcontext():
        check(searching)


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("90", 90),
        ("0:30", 1),
        ("04:00:00", 240),
        ("1-12", 2160),
        ("1-00:30", 1470),
        ("2-00:00:01", 2881),
        ("infinite", None),
        ("4h", None),
        ("", None),
    ],
)
def test_times_are_read_as_slurm_writes_them(written, minutes):
    assert queue.minutes_of(written) == minutes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("launcher.time=soon", "launcher.time: must be minutes, HH:MM:SS or D-HH:MM:SS, got 'soon'"),
        ("launcher.time=0", "launcher.time: must be minutes, HH:MM:SS or D-HH:MM:SS, got '0'"),
        ("launcher.cpus=0", "launcher.cpus: must be at least 1, got 0"),
        ("launcher.gpus=-1", "launcher.gpus: must be at least 0, got -1"),
        ("launcher.requeues=-1", "launcher.requeues: must be at least 0, got -1"),
        ("launcher.poll=0", "launcher.poll: must be above 0 seconds, got 0.0"),
        (
            "launcher.sbatch={partition: low}",
            "launcher.sbatch: must be none that launcher.* sets or the launcher needs itself, got 'partition'",
        ),
    ],
)
def test_bad_values_are_refused(change, told, capsys):
    assert main(["train", "-m", "cache=cache", "seed=1,2", "launcher=slurm", change]) == 2
    assert capsys.readouterr().err.splitlines()[0] == told


def test_a_machine_without_slurm_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(queue.shutil, "which", lambda name: None)
    assert main(["train", "-m", "cache=cache", "seed=1,2", "launcher=slurm"]) == 2
    told = capsys.readouterr().err
    assert told == "launcher: slurm needs SLURM's commands, there is no sbatch on the PATH\n"


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(queue, "find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"pip install 'acetrain\[slurm\]'"):
        queue.check_installed()


@pytest.mark.parametrize(
    ("partition", "minutes", "told"),
    [("", 60, ""), ("long", 9000, ""), ("", 61, "1:00:00, the limit of partition low"), ("low,long", 9000, "")],
)
def test_more_time_than_the_partition_allows_is_refused(said, partition, minutes, told):
    said["sinfo"] = "low*|1:00:00\nlong|infinite\n"
    if not told:
        queue.check_time(partition, minutes)
        return
    with pytest.raises(Refused) as refusal:
        queue.check_time(partition, minutes)
    assert str(refusal.value) == f"launcher.time: must be at most {told}, got {minutes} minutes"


def test_the_queue_tells_what_waits_and_what_runs(said, tmp_path: Path):
    record = Record.of(tmp_path, "sweep")
    record.path.mkdir(parents=True)
    runs = ["waits", "runs", "over", "gone", "local"]
    note(record.path, {run: f"7_{index}" for index, run in enumerate(runs[:-1])})
    rows = ["7_0|PENDING|Resources|", "7_1|RUNNING|None|n1", "7_2|FAILED|NonZeroExitCode|n1", "8|RUNNING|None|n2"]
    said["squeue"] = "\n".join(rows)
    found = standings(record, [Entry(run, {}, 9, 9, 9.0) for run in runs])
    states = [State.queued, State.running, State.missing, State.missing, State.missing]
    assert [one.state for one in found] == states
    assert "queued as 7_0 (Resources)" in "\n".join(jobs(found))
    del said["squeue"]
    assert {one.state for one in standings(record, [Entry(run, {}, 9, 9, 9.0) for run in runs])} == {State.missing}
