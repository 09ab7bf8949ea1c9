"""The trials of a search: shared, taken up again, told once."""

import contextlib
import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from acetrain.errors import Failed, Refused
from acetrain.sweeps.search import Axis, Metric, Pruner, Sampler, Search, Stopping
from acetrain.sweeps.study import Claim, Trials

FORKS = multiprocessing.get_context("fork")
SPACE = {"lr": Axis(1e-5, 1e-2, log=True), "rank": Axis(4, 64), "kind": Axis(choices=["lora", "dora"])}


def options(**given: Any) -> Search:
    pruner = Pruner(Stopping.asha, min_steps=2, reduction=2, startup=3)
    usual = {"trials": 14, "metric": Metric.val_loss, "seed": 0, "storage": "", "sampler": Sampler.tpe}
    return Search(**{**usual, "pruner": pruner, "space": SPACE, **given})


def opened(folder: Path, begun: str = "x", **given: Any) -> Trials:
    return Trials(options(**given), frozenset({"rank"}), "search", folder, begun)


def run_of(values: Mapping[str, Any]) -> str:
    return f"run-{values['lr']}-{values['rank']}-{values['kind']}"


def loss(values: Mapping[str, Any], step: int) -> float:
    return abs(values["lr"] - 1e-3) * 1e3 + 1 / (values["rank"] + step)


class Killed(BaseException):
    """What ends a process of these tests."""


def work(trials: Trials, until: int | None = None) -> None:
    """Carry out every trial that is left; as if killed after so many reports."""
    reports = 0
    while True:
        with trials.claimed(run_of) as claim:
            if claim is None:
                return
            for step in range(1, 9):
                known = trials.all()[claim.number].intermediate_values
                trials.report(claim, step, loss(claim.values, step))
                reports += step not in known
                if reports == until and step not in known:
                    raise Killed
                if trials.hopeless(claim, step):
                    trials.pruned(claim)
                    break
            else:
                trials.complete(claim, loss(claim.values, 8))


def table(trials: Trials) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials.all()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    trials = opened(tmp_path_factory.mktemp("undisturbed"))
    work(trials)
    return table(trials)


def test_a_search_tries_as_many_as_asked_and_ends_weak_ones(undisturbed):
    assert len(undisturbed) == 14
    states = [state for _, state, *_ in undisturbed]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(set(params) == set(SPACE) and 4 <= params["rank"] <= 64 for *_, params, _, _ in undisturbed)


@pytest.mark.parametrize(("until", "storage"), [(1, ""), (2, ""), (5, ""), (20, "sqlite:///{}/study.db")])
def test_killed_and_started_again_it_ends_in_the_same_table(tmp_path, undisturbed, until, storage):
    again = {"storage": storage.format(tmp_path)}
    for _ in range(80):
        with contextlib.suppress(Killed):
            work(opened(tmp_path, **again), until)
            break
    assert table(opened(tmp_path, **again)) == undisturbed


def test_a_trial_killed_while_it_was_asked_for_gets_the_values_it_would_have_had(tmp_path, undisturbed):
    trials = opened(tmp_path)
    study = optuna.load_study(study_name="search", storage=trials._study._storage)
    study.sampler = trials._study.sampler
    study.ask().suggest_float("lr", 1e-5, 1e-2, log=True)
    work(trials)
    assert table(trials) == undisturbed


def test_values_of_the_job_are_short_and_in_range():
    axis = Axis(1.23449e-5, 1e-2, log=True)
    assert axis.value(0.000314159265) == 0.0003142
    assert axis.value(1.23449e-5) == 1.23449e-5
    assert Axis(0, 0.2, step=0.05).value(0.05 * 3) == 0.15
    assert Axis(4, 64).value(8) == 8
    assert type(Axis(4, 64).value(8)) is int
    assert Axis(choices=[["a"], ["b"]]).value('["b"]') == ["b"]


def at_work(folder: Path, seconds: float) -> None:
    with opened(folder).claimed(run_of) as claim:
        (folder / f"has-{claim.number if claim else None}").touch()
        time.sleep(seconds)


def test_a_trial_of_a_process_that_lives_is_not_taken_and_one_of_a_dead_process_is(tmp_path):
    other = FORKS.Process(target=at_work, args=(tmp_path, 60))
    other.start()
    while not (tmp_path / "has-0").exists():
        time.sleep(0.01)
    trials = opened(tmp_path)
    with trials.claimed(run_of) as claim:
        assert claim is not None and claim.number == 1
        trials.complete(claim, 1.0)
    other.kill()
    other.join()
    with trials.claimed(run_of) as claim:
        assert claim is not None and claim.number == 0


def test_values_that_another_process_tries_are_left_for_later(tmp_path):
    def same(values: Mapping[str, Any]) -> str:
        return "the same run"

    other = FORKS.Process(target=at_work, args=(tmp_path, 60))
    trials = opened(tmp_path, trials=4)
    with trials.claimed(same) as first:
        assert first is not None
        beside = opened(tmp_path, trials=4)
        with beside.claimed(same) as second:
            assert second is None
        assert len(trials.all()) == 4
        trials.complete(first, 1.0)
    numbers = []
    for _ in range(3):
        with beside.claimed(same) as claim:
            assert claim is not None
            numbers.append(claim.number)
            beside.complete(claim, 1.0)
    assert numbers == [1, 2, 3]
    assert not other.is_alive()


def test_a_failed_trial_is_tried_again_by_the_next_start_only(tmp_path):
    trials = opened(tmp_path, trials=2)

    def fail_one() -> Claim:
        with trials.claimed(run_of) as claim:
            assert claim is not None
            trials.failed(claim, "no memory")
            return claim

    first, second = fail_one(), fail_one()
    with trials.claimed(run_of) as claim:
        assert claim is None
    for _ in range(2):
        trials.repeat_failed()
    third, fourth = fail_one(), fail_one()
    assert [third.values, fourth.values] == [first.values, second.values]
    with trials.claimed(run_of) as claim:
        assert claim is None
    assert len(trials.all()) == 4


def test_a_search_of_other_settings_is_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(Refused, match=r"search: .*journal holds a search 'search' of another space"):
        opened(tmp_path, begun="y")


STORAGES = {
    "nope/journal": "nope/journal cannot be opened: No such file or directory",
    "sqlite:////nope/study.db": r"sqlite:////nope/study.db cannot be opened: \(sqlite3.*unable to open database file",
    "postgresql://me:geheim@db/x": r"postgresql://me:\*\*\*@db/x cannot be opened: Failed to import DB access module",
    "nosql://me:geheim@db/x?pw=geheim": r"nosql://me:\*\*\*@db/x cannot be opened: Can't load plugin",
    "://": "",
}


@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(tmp_path, storage):
    with pytest.raises(Refused, match=f"^search.storage: {STORAGES[storage]}") as refused:
        opened(tmp_path, storage=storage)
    assert "geheim" not in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "notes").write_text("no journal\n")
    with pytest.raises(Refused, match=r"search.storage: .*notes cannot be opened"):
        opened(tmp_path, storage=str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "no journal\n"


def test_a_lost_storage_fails_in_two_lines_and_is_not_begun_anew(tmp_path):
    trials = opened(tmp_path)
    with trials.claimed(run_of) as claim:
        assert claim is not None
        (tmp_path / "journal").unlink()
        with pytest.raises(Failed, match="journal cannot be used: No such file") as failed:
            trials.report(claim, 1, 0.5)
    assert len(str(failed.value).splitlines()) == 2
    assert not (tmp_path / "journal").exists()


def test_a_line_torn_by_a_full_disk_is_taken_off_again(tmp_path):
    trials = opened(tmp_path)
    with trials.claimed(run_of) as claim:
        assert claim is not None
        with (tmp_path / "journal").open("a") as file:
            file.write('{"op_code": 6, "tr')
        trials.report(claim, 1, 0.5)
    assert opened(tmp_path).all()[0].intermediate_values == {1: 0.5}
