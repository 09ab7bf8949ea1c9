"""A multirun does what is missing, tells how each job ended, and forgets nothing."""

import gc
import json
import os
import shlex
import signal
import subprocess
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fabricate
import pytest
from torch import nn

from acetrain.cli import main
from acetrain.config import repeatable
from acetrain.errors import Failed, OutOfMemory
from acetrain.jobs.train import Train
from acetrain.sweeps.local import Job, Slot, _last_line, slots
from acetrain.sweeps.record import Content, Entry, Record, now, recorded, varied
from acetrain.sweeps.state import State, standings

QUICK = ["logger=csv", "trainer=cpu", "max_steps=2"]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Path:
    return fabricate.cache(tmp_path_factory.mktemp("cached") / "cache", songs=3)


@pytest.fixture
def ended(monkeypatch, tmp_path) -> Iterator[list[str]]:
    """Runs that came to their end, in order; a training is one checkpoint here, and those in `ailing` do otherwise."""
    monkeypatch.chdir(tmp_path)
    done: list[str] = []

    def run(self: Train, *shared: object) -> None:
        with self.folder.held():
            self.folder.claim(repeatable(self))
            ailing.get(self.seed, lambda run: None)(self)
            (self.folder.path / f"step-{self.total_steps:08d}.ckpt").touch()
            done.append(self.folder.path.name)

    monkeypatch.setattr(Train, "run", run)
    yield done
    ailing.clear()


ailing: dict[int, Callable[[Train], object]] = {}
"""Seed -> what happens in its training."""


def sweep(cache: Path, *changes: str) -> int:
    return main(["train", "-m", f"cache='{cache}'", *QUICK, *changes])


def states(name: str = "train", parent: str = "runs") -> list[State]:
    record = Record.of(Path(parent), name)
    return [one.state for one in standings(record, record.read().entries)]


def frames(run: Train) -> int:
    """The frame budget of a run that was given one."""
    assert run.data.budget is not None
    return run.data.budget


def fail(run: Train) -> None:
    raise Failed("it is unlucky")


def test_a_sweep_that_is_started_again_does_what_is_missing(encoded, ended, capsys):
    assert sweep(encoded, "seed=0,1,2") == 0
    assert len(ended) == 3
    assert sweep(encoded, "seed=0,1,2") == 0
    assert len(ended) == 3
    assert "nothing left to do" in capsys.readouterr().out
    (Path("runs") / ended[1] / "step-00000002.ckpt").unlink()
    assert sweep(encoded, "seed=0,1,2,3") == 0
    assert ended[3] == ended[1]
    assert len(ended) == 5
    assert states() == [State.finished] * 4


def test_jobs_of_a_later_start_are_added(encoded, ended, capsys):
    assert sweep(encoded, "seed=0,1") == sweep(encoded, "seed=1,2", "adapter.rank=4") == 0
    entries = Record.of(Path("runs"), "train").read().entries
    assert [(entry.given["seed"], entry.given.get("adapter.rank")) for entry in entries] == [
        (0, None),
        (1, None),
        (1, 4),
        (2, 4),
    ]
    assert varied(entries) == ["seed", "adapter.rank"]
    capsys.readouterr()
    assert main(["sweep", "status", "train"]) == 0
    assert "4 jobs: 4 finished" in capsys.readouterr().out


def test_a_job_that_fails_stops_no_other_and_says_how_to_run_it(encoded, ended, capsys):
    ailing[1] = fail
    assert sweep(encoded, "seed=0,1,2") == 1
    assert len(ended) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == "seed=1: it is unlucky"
    assert "job 2 failed: it is unlucky" in printed.out
    (command,) = [line for line in printed.out.splitlines() if "by itself: acetrain train experiment=" in line]
    assert states() == [State.finished, State.failed, State.finished]
    ailing.clear()
    assert main(command.split()[3:]) == 0
    assert states() == [State.finished] * 3


def test_a_job_that_is_killed_without_notice_is_interrupted(encoded, ended):
    assert sweep(encoded, "seed=0") == 0
    record = Record.of(Path("runs"), "train")
    (entry,) = record.read().entries
    (Path("runs") / entry.run / "step-00000002.ckpt").rename(Path("runs") / entry.run / "step-00000001.ckpt")
    record.begin(entry.run)
    (one,) = standings(record, [entry])
    assert (one.state, one.step, len(one.attempts)) == (State.interrupted, 1, 2)


def test_a_try_that_waits_for_another_does_not_take_its_place(tmp_path):
    record = Record.of(tmp_path, "two")
    record.add(Content(), {})
    first, waiting = record.begin("run"), replace(record.begin("run"), pid=1)
    record._note("run", [first, waiting])
    failed = replace(first, ended=now(), code=1, message="it is unlucky")
    record.end("run", failed)
    assert record.attempts("run") == [failed, waiting]
    record.end("run", replace(waiting, ended=now()))
    assert [one.code for one in record.attempts("run")] == [1, 0]


def test_starts_at_the_same_time_lose_no_job(tmp_path):
    record = Record.of(tmp_path, "many")
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            for place in range(10):
                record.add(Content((Entry(f"{number}-{place}", {}, 1, 1, 1.0),)), {})
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(record.entries()) == 40


def test_a_signal_ends_the_sweep_and_is_noted(encoded, ended):
    ailing[1] = lambda run: os.kill(os.getpid(), signal.SIGTERM)
    assert sweep(encoded, "seed=0,1,2") == 143
    assert states() == [State.finished, State.interrupted, State.missing]
    record = Record.of(Path("runs"), "train")
    assert record.attempts(record.read().entries[1].run)[-1].code == 143


def test_a_job_that_a_process_is_at_is_running(encoded, ended):
    assert sweep(encoded, "seed=0") == 0
    (run,) = ended
    (Path("runs") / run / "step-00000002.ckpt").unlink()
    record = Record.of(Path("runs"), "train")
    child = os.fork()
    if not child:
        from acetrain.training.run_folder import RunFolder

        with RunFolder(Path("runs") / run, {}).held():
            Path("in").touch()
            signal.pause()
        os._exit(0)
    try:
        while not Path("in").exists():
            pass
        assert states() == [State.running]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert states() == [State.interrupted]
    assert record.attempts(run)[-1].code == 0


@pytest.mark.parametrize(("retried", "tried"), [(True, [4000, 2000, 1000]), (False, [4000])])
def test_out_of_memory_is_tried_again_with_fewer_frames_where_asked_for(encoded, ended, capsys, retried, tried):
    budgets = []

    def too_large(run: Train) -> None:
        budgets.append(frames(run))
        if frames(run) > 1000:
            raise OutOfMemory("too large", frames(run))

    ailing[0] = too_large
    code = sweep(encoded, "seed=0", "data.max_frames=4000", f"sweep.retry_oom={retried}")
    assert (budgets, code) == (tried, 0 if retried else 1)
    record = Record.of(Path("runs"), "train")
    (one,) = standings(record, record.read().entries)
    assert one.changes == ({"data.max_frames": 1000} if retried else {})
    assert one.state is (State.finished if retried else State.failed)
    capsys.readouterr()
    assert main(["sweep", "status", "train"]) == 0
    assert ("job 1: changed to fit: data.max_frames=1000" in capsys.readouterr().out) is retried


def test_what_did_not_fit_is_let_go_of_before_the_next_try(encoded, ended):
    models, left = [], []

    def too_large(run: Train) -> None:
        left.extend(model() for model in models)
        modules = nn.ModuleList()
        vars(modules)["trainer"] = modules
        models.append(weakref.ref(modules))
        if frames(run) > 1000:
            raise OutOfMemory("too large", frames(run))

    ailing[0] = too_large
    gc.disable()
    try:
        assert sweep(encoded, "seed=0", "data.max_frames=2000", "sweep.retry_oom=true") == 0
    finally:
        gc.enable()
    assert left == [None]


def test_frames_are_not_made_fewer_than_the_longest_song_has(encoded, ended):
    budgets = []

    def too_large(run: Train) -> None:
        budgets.append(frames(run))
        raise OutOfMemory("too large", frames(run))

    ailing[0] = too_large
    assert sweep(encoded, "seed=0", "data.max_frames=1000", "sweep.retry_oom=true") == 1
    assert budgets[0] == 1000
    assert 100 < budgets[-1] < 1000


def test_a_dry_run_checks_shows_and_writes_nothing(encoded, ended, capsys):
    assert sweep(encoded, "seed=0,1", "adapter.rank=4,8", "dry_run=true") == 0
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines()[2:6]] == [
        ["1", "0", "4"],
        ["2", "0", "8"],
        ["3", "1", "4"],
        ["4", "1", "8"],
    ]
    assert "4 of 4 jobs to run: up to 8 steps over" in out
    assert not Path("runs").exists()


def test_a_bad_value_in_the_last_job_is_told_before_the_first(encoded, ended, capsys):
    assert sweep(encoded, "adapter.rank=4,8,0") == 2
    assert capsys.readouterr().err.splitlines() == [
        "adapter.rank: must be at least 1, got 0",
        "in job 3 of 3: adapter.rank=0",
    ]
    assert not Path("runs").exists()


def test_one_job_of_a_sweep_can_be_run(encoded, ended):
    ailing[1] = fail
    assert sweep(encoded, "seed=0,1") == 1
    ailing.clear()
    assert main(["sweep", "run", "train", "job=2"]) == 0
    assert states() == [State.finished] * 2
    assert main(["sweep", "run", "train", "job=3"]) == 2


def test_a_job_is_run_in_its_own_folder_from_wherever_it_is_started(encoded, ended, monkeypatch):
    ailing[0] = fail
    assert sweep(encoded, "seed=0") == 1
    ailing.clear()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["sweep", "run", "train", "out_dir=../runs", "job=1"]) == 0
    assert not Path("runs").exists()
    assert states(parent="../runs") == [State.finished]


@pytest.mark.parametrize("name", ["a b", "-x", "lr=1;ls"])
def test_what_is_told_to_be_typed_can_be_typed(encoded, ended, capsys, name):
    ailing[0] = fail
    quoted = f"name='{name}'"
    assert sweep(encoded, "seed=0", quoted, "out_dir='my runs'") == 1
    told = capsys.readouterr().out.splitlines()
    ailing.clear()
    (results,) = [line.removeprefix("results: ") for line in told if line.startswith("results: ")]
    status = shlex.split(results.replace(" results ", " status "))
    assert main(status[1:]) == 0
    told += capsys.readouterr().out.splitlines()
    (again,) = [line.removeprefix("to go on: ") for line in told if line.startswith("to go on: ")]
    (alone,) = [line.removeprefix("  by itself: ") for line in told if line.startswith("  by itself: ")]
    (one,) = [line.partition("by itself: ")[2] for line in told if line.startswith("one of them by itself: ")]
    for command in (one.replace("NUMBER", "1"), alone, again):
        assert main(shlex.split(command)[1:]) == 0
    assert len(ended) == 2, "the third has nothing left to do"


@pytest.mark.parametrize("name", [".", ".."])
def test_no_sweep_is_the_folder_of_sweeps_itself(encoded, ended, name):
    assert sweep(encoded, f"name={name}") == main(["sweep", "clean", f"name={name}"]) == 2
    assert not Path("runs").exists()


def test_status_of_all_sweeps_is_a_list_in_json(encoded, ended, capsys):
    assert main(["sweep", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert sweep(encoded, "seed=0") == 0
    capsys.readouterr()
    assert main(["sweep", "status", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["sweep"], [job["state"] for job in one["jobs"]]) == ("train", ["finished"])
    assert main(["sweep", "clean", "train", "--json"]) == 2
    assert capsys.readouterr().err == "json: must be false but for status, got True\n"


def test_a_process_that_ended_before_it_began_is_not_told_by_an_earlier_try(tmp_path):
    record, process = Record.of(tmp_path, "local"), subprocess.Popen(["false"])
    entry = Entry("run", {}, 1, 1, 1.0)
    record.add(Content((entry,)), {})
    record.end("run", replace(record.begin("run"), ended=now(), code=1, message="of last week"))
    record.log("run").write_text("cache: is gone\n")
    multirun: Any = SimpleNamespace(planned=[SimpleNamespace(entries=[entry])])
    process.wait()
    assert _last_line(record, multirun, Job(0, Slot((), 1), process)) == "cache: is gone"


def test_clean_deletes_what_failed_once_it_is_told_to(encoded, ended, capsys):
    ailing[1] = fail
    assert sweep(encoded, "seed=0,1") == 1
    runs = {path.name for path in Path("runs").glob("train-*")}
    assert main(["sweep", "clean", "train"]) == 0
    assert "would delete" in capsys.readouterr().out
    assert {path.name for path in Path("runs").glob("train-*")} == runs
    assert main(["sweep", "clean", "train", "delete=true"]) == 0
    assert [path.name for path in Path("runs").glob("train-*")] == ended
    assert states() == [State.finished, State.missing]
    assert main(["sweep", "clean", "train", "delete=true"]) == 0
    assert capsys.readouterr().out.endswith("nothing to delete\n")


def test_clean_leaves_links(encoded, ended, capsys):
    assert sweep(encoded, "seed=0", "out_dir=first") == 0
    (linked,) = Path("first").glob("train-*")
    linked.rename("scratch")
    linked.symlink_to(Path("scratch").absolute())
    assert main(["sweep", "clean", "train", "out_dir=first", "what=all", "delete=true"]) == 0
    assert linked.is_symlink() and list(Path("scratch").iterdir())
    assert f"kept: {linked}, it is a link" in capsys.readouterr().out


def test_clean_leaves_a_run_elsewhere_that_a_sweep_there_has(encoded, ended):
    assert sweep(encoded, "seed=0", "out_dir=second") == 0
    assert sweep(encoded, "seed=0", "out_dir=first,second") == 0
    assert main(["sweep", "clean", "train", "out_dir=first", "what=all", "delete=true"]) == 0
    assert not list(Path("first").glob("train-*"))
    assert states(parent="second") == [State.finished]


def test_clean_leaves_runs_that_another_sweep_has(encoded, ended):
    Path("sweeps").mkdir()
    Path("sweeps/other.yaml").write_text("grid: {seed: [1, 2]}\n")
    assert sweep(encoded, "seed=0,1") == 0
    assert main(["train", f"cache={encoded}", *QUICK, "sweep=other"]) == 0
    assert recorded(Path("runs")) == ["other", "train"]
    assert main(["sweep", "clean", "train", "what=all", "delete=true"]) == 0
    assert recorded(Path("runs")) == ["other"]
    assert states("other") == [State.finished] * 2
    assert len(list(Path("runs").glob("train-*"))) == 2


def test_a_damaged_record_is_one_line(encoded, ended, capsys):
    assert sweep(encoded, "seed=0") == 0
    Path("runs/sweeps/train/sweep.json").write_text("{")
    capsys.readouterr()
    for arguments in (["sweep", "status", "train"], ["train", "-m", f"cache='{encoded}'", *QUICK, "seed=0"]):
        assert main(arguments) == 2
        assert "runs/sweeps/train/sweep.json: must be the record of a sweep" in capsys.readouterr().err


def test_too_few_gpus_are_told_before_anything_is_written(encoded, ended, capsys, monkeypatch):
    monkeypatch.setattr("acetrain.sweeps.local.gpus", lambda: ["0"])
    for dry in ("true", "false"):
        assert sweep(encoded, "seed=0,1", "launcher=local", "launcher.jobs=2", f"dry_run={dry}") == 2
        assert "launcher.jobs: must be at most 1" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_jobs_side_by_side_never_share_a_gpu():
    assert [slot.gpus for slot in slots(2, 2, ["0", "1", "2", "3", "4"])] == [("0", "1"), ("2", "3")]
    assert [slot.gpus for slot in slots(3, 1, [])] == [()] * 3
    with pytest.raises(Exception, match=r"launcher.jobs: must be at most 2, as a job takes 2 of the 5 GPUs, got 3"):
        slots(3, 2, ["0", "1", "2", "3", "4"])
