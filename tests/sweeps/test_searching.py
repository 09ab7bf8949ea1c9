"""Searches by the command: their table, and that it is the same however often they are killed."""

import itertools
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import fabricate
import pytest
import runs
from safetensors.torch import load_file

from acetrain.cli import main
from acetrain.sweeps import storage
from acetrain.sweeps.judge import curve
from acetrain.sweeps.record import Record
from acetrain.sweeps.search import Metric
from acetrain.sweeps.state import State, standings
from acetrain.sweeps.study import Trials

QUICK = ["logger=csv", "trainer=cpu", "data.workers=0", "schedule.warmup=0"]
FILE = """
adapter: {alpha: 4}
max_steps: 6
data: {validation: 0.3}
trainer: {validate_every: 2, checkpoint_every: 3, validation_quantiles: 2, max_bad_steps: 1}
search:
  trials: 4
  pruner: {min_steps: 2, reduction: 2}
  space: SPACE
"""
SPACE = "{adapter.rank: {choices: [2, 4]}, optimizer.lr: {low: 1e-4, high: 1e-1, log: true}}"


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return fabricate.cache(tmp_path_factory.mktemp("cached") / "cache", songs=7)


def command(folder: Path, cache: Path, *changes: str, space: str = SPACE) -> list[str]:
    """The search of `folder`, whose file it writes."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(FILE.replace("SPACE", space))
    return ["train", f"cache={cache}", f"out_dir={folder / 'runs'}", f"sweep={folder / 'small.yaml'}", *QUICK, *changes]


def record(folder: Path) -> Record:
    return Record.of(folder / "runs", "small")


def trials(folder: Path) -> list[tuple[Any, ...]]:
    """What the study says of each trial."""
    from optuna.study import load_study

    study = load_study(study_name="small", storage=storage.opened(str(record(folder).path / "search" / "journal")))
    return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]


def table(folder: Path) -> list[tuple[Any, ...]]:
    """Each run of the search: its values, how it ended, its figures, and the bits of its best adapter."""
    found = []
    for one in standings(record(folder), record(folder).entries()):
        run = record(folder).folder(one.entry.run)
        best = load_file(run / "best" / "adapter_model.safetensors")
        bits = {name: tensor.numpy().tobytes() for name, tensor in best.items()}
        found.append((one.entry.run, one.entry.given["adapter.rank"], one.state, one.step, runs.metrics(run), bits))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = runs.acetrain(*command(folder, cache))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_search_tells_each_trial_the_best_and_how_to_repeat_it(undisturbed, cache, capsys):
    states = [one.state for one in standings(record(undisturbed), record(undisturbed).entries())]
    assert set(states) == {State.finished, State.pruned} and len(states) == 4
    assert main(command(undisturbed, cache)) == 0
    told = capsys.readouterr().out
    assert "4 of 4 trials done, " in told and "pruned at step 2" in told
    best = min((value, number) for number, state, _, value, _ in trials(undisturbed) if state == "COMPLETE")
    assert f"best: {best[0]:.6g} by trial {best[1] + 1}" in told
    run = next(line.rpartition("experiment=")[2] for line in told.splitlines() if "by itself" in line)
    assert Path(run).is_file()


def test_what_is_told_is_what_the_runs_tables_say(undisturbed):
    found = trials(undisturbed)
    for (_, state, _, value, losses), entry in zip(found, record(undisturbed).entries(), strict=True):
        said = curve(record(undisturbed).folder(entry.run), Metric.val_loss)
        assert list(losses.items()) == said
        assert state == "PRUNED" or value == min(loss for _, loss in said)


def test_status_shows_what_was_ended_early_as_done(undisturbed, capsys):
    assert main(["sweep", "status", "small", f"out_dir={undisturbed / 'runs'}"]) == 0
    assert "pruned at step 2" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_and_started_again_it_ends_in_the_same_table(tmp_path, cache, undisturbed, seed):
    draw, kills = random.Random(seed), 0
    for attempt in itertools.count():
        run = runs.launch(tmp_path / "log", *command(tmp_path / "search", cache))
        if kills < 4:
            kills += stop(run, tmp_path / "search", draw)
        done = run.wait()
        if done.returncode == 0:
            break
        assert attempt < 12 and done.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM), done.stderr
    assert kills >= 3
    assert trials(tmp_path / "search") == trials(undisturbed)
    assert table(tmp_path / "search") == table(undisturbed)


def stop(run: runs.Run, folder: Path, draw: random.Random) -> int:
    """Kill or interrupt a search once it has added so many lines to its journal, which stands for how far it is."""
    file = record(folder).path / "search" / "journal"
    there = len(file.read_text().splitlines()) if file.exists() else 0
    lines = there + draw.randrange(1, 14)
    while not run.ended and (not file.exists() or len(file.read_text().splitlines()) < lines):
        time.sleep(0.002)
    time.sleep(draw.random() * 0.2)
    run.send(draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    return int(not run.ended)


def test_trials_of_the_same_values_are_one_run(tmp_path, cache, capsys):
    assert main(command(tmp_path, cache, "search.pruner.kind=none", space="{adapter.rank: {choices: [2, 4]}}")) == 0
    told = capsys.readouterr().out
    found = trials(tmp_path)
    different = {params["adapter.rank"]: value for _, _, params, value, _ in found}
    assert len(found) == 4 and all(value == different[params["adapter.rank"]] for _, _, params, value, _ in found)
    assert len(record(tmp_path).entries()) == len(different)
    assert told.count("nothing left to do") == 4 - len(different) > 0


@pytest.mark.slow
def test_a_failed_trial_stops_no_other_and_is_tried_again(tmp_path, cache, capsys):
    asked = command(
        tmp_path, cache, "search.trials=3", "search.seed=1", space="{optimizer.lr: {choices: [1e-3, 1e38]}}"
    )
    assert main(asked) == 1
    told = capsys.readouterr()
    states = [state for _, state, *_ in trials(tmp_path)]
    assert set(states) == {"COMPLETE", "FAIL"}
    failed, count = states.index("FAIL") + 1, states.count("FAIL")
    assert f"trial {failed} of 3: failed: RuntimeError: value cannot be converted" in told.out
    assert f"{count} of 3 trials are not done" in told.err and f"trial {failed}: RuntimeError: " in told.err
    assert main(asked) == 1
    assert [state for _, state, *_ in trials(tmp_path)] == [*states, *["FAIL"] * count]


@pytest.mark.slow
def test_a_storage_that_is_lost_costs_no_training(tmp_path, cache, monkeypatch, capsys):
    report, asked = Trials.report, command(tmp_path, cache, "search.trials=2", "search.pruner.kind=none")

    def losing(self: Trials, *arguments: Any) -> None:
        (record(tmp_path).path / "search" / "journal").unlink(missing_ok=True)
        report(self, *arguments)

    monkeypatch.setattr(Trials, "report", losing)
    assert main(asked) == 1
    told = capsys.readouterr().err
    assert told.count("search/journal cannot be used: No such file or directory") == 2
    assert "this run goes on without being judged" in told
    monkeypatch.undo()
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert told.count("nothing left to do: ") == 1 and told.count("adapter: ") == 1
    assert [state for _, state, *_ in trials(tmp_path)] == ["COMPLETE", "COMPLETE"]


def test_a_databases_password_is_written_nowhere(tmp_path, cache, monkeypatch, capsys):
    url, journal = "postgresql://me:geheimnis@db/x", storage.opened(str(tmp_path / "journal"))
    monkeypatch.setattr(storage, "opened", lambda where: journal)
    monkeypatch.setenv("DATABASE_PASSWORD", "geheimnis")
    assert main(command(tmp_path, cache, "search.trials=1", f"search.storage={url}")) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if b"geheim" in path.read_bytes()]
    assert "postgresql://me:***@db/x" in (record(tmp_path).path / "sweep.json").read_text()
    assert "geheim" not in "".join(capsys.readouterr())


def test_a_key_given_on_the_command_line_is_not_searched(tmp_path, cache, capsys):
    assert main(command(tmp_path, cache, "adapter.rank=8", "dry_run=true")) == 0
    told = capsys.readouterr().out
    assert "optimizer.lr" in told and "adapter.rank" not in told


def test_a_search_begun_otherwise_is_refused(tmp_path, cache, undisturbed, capsys):
    assert main(command(undisturbed, cache, "max_steps=8")) == 2
    assert "journal holds a search 'small' of another space, other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_a_search(tmp_path, cache, capsys):
    assert main(command(tmp_path, cache, "launcher=local", "launcher.jobs=2", "search.trials=6")) == 0
    told = capsys.readouterr().out
    assert told.count("trial ") >= 6 and "6 of 6 trials done" in told
    logs = [(record(tmp_path).path / "search" / f"worker-{number}.log").read_text() for number in (1, 2)]
    tried = [set(re.findall(r"^trial (\d+):", log, re.MULTILINE)) for log in logs]
    assert all(tried) and sum(map(len, tried)) == len(trials(tmp_path)) == 6
    assert {state for _, state, *_ in trials(tmp_path)} == {"COMPLETE", "PRUNED"}
