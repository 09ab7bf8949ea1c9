"""Law 7, second half: the plan's steps, and their split."""

from collections import Counter

import pytest

from acetrain.data.plan import Plan, held_out
from acetrain.data.split import deal, groups

LENGTHS = tuple(100 + 37 * index % 900 for index in range(53))


@pytest.mark.parametrize("songs_per_step", [1, 4, 7, 53, 60])
@pytest.mark.parametrize("repeats", [1, 3])
def test_every_song_comes_exactly_repeats_times_an_epoch(songs_per_step: int, repeats: int) -> None:
    plan = Plan(LENGTHS, songs_per_step, repeats, seed=5)
    for epoch in range(3):
        visits = [visit for step in plan.epoch(epoch) for visit in step]
        assert Counter(visit.song for visit in visits) == dict.fromkeys(range(len(LENGTHS)), repeats)
        assert len(set(visits)) == len(visits) and {visit.epoch for visit in visits} == {epoch}
        assert len(plan.epoch(epoch)) == plan.steps_per_epoch


@pytest.mark.parametrize("songs_per_step", [1, 4, 60])
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_song_comes_its_own_repeat_times_as_often(songs_per_step: int, repeats: int) -> None:
    own = tuple(1 + index % 3 * index % 7 for index in range(len(LENGTHS)))
    plan = Plan(LENGTHS, songs_per_step, repeats, 5, own)
    for epoch in range(2):
        visits = [visit for step in plan.epoch(epoch) for visit in step]
        assert Counter(visit.song for visit in visits) == {song: repeats * count for song, count in enumerate(own)}
        assert len(set(visits)) == len(visits)
        assert {visit.repeat for visit in visits if visit.song == 5} == set(range(repeats * own[5]))
        assert len(plan.epoch(epoch)) == plan.steps_per_epoch
    assert sum(own) > len(own) and plan.digest() != Plan(LENGTHS, songs_per_step, repeats, 5).digest()


def test_repeats_of_one_are_no_repeats() -> None:
    assert Plan(LENGTHS, 4, 3, 0, (1,) * len(LENGTHS)).epoch(2) == Plan(LENGTHS, 4, 3, 0).epoch(2)


def test_steps_hold_songs_of_similar_length() -> None:
    plan = Plan(LENGTHS, 8, 1, seed=0)
    spreads = [
        max(lengths) / min(lengths)
        for step in plan.epoch(0)
        if len(lengths := [LENGTHS[visit.song] for visit in step]) > 1
    ]
    assert sum(spreads) / len(spreads) < 1.9 < max(LENGTHS) / min(LENGTHS)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    plan = Plan(LENGTHS, 4, 1, seed=0)
    assert plan.epoch(0) != tuple(tuple(visit for visit in step) for step in plan.epoch(1))
    songs = [[tuple(visit.song for visit in step) for step in plan.epoch(epoch)] for epoch in range(2)]
    assert sorted(songs[0]) != sorted(songs[1])
    assert Plan(LENGTHS, 4, 1, seed=0).epoch(7) == plan.epoch(7)
    assert Plan(LENGTHS, 4, 1, seed=1).epoch(0) != plan.epoch(0)
    assert Plan(LENGTHS, 4, 1, seed=1).digest() != plan.digest() == Plan(LENGTHS, 4, 1, seed=0).digest()


def test_step_counts_over_epochs() -> None:
    plan = Plan(LENGTHS, 4, 1, seed=0)
    flat = [step for epoch in range(3) for step in plan.epoch(epoch)]
    assert [plan.step(index) for index in range(len(flat))] == flat


@pytest.mark.parametrize("max_frames", [1, 700, 2000, 10**6])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("lengths", [(500,), (300, 1200), (900, 100, 400, 400, 100), LENGTHS[:16]])
def test_a_split_covers_the_step_once_within_the_budget(lengths: tuple[int, ...], ranks: int, max_frames: int) -> None:
    dealt = deal(lengths, max_frames, ranks)
    assert len(dealt) == ranks and len({len(rank) for rank in dealt}) == 1
    shares = [group for rank in dealt for group in rank]
    assert sorted(index for group in shares for index in group) == list(range(len(lengths)))
    for group in shares:
        assert len(group) <= 1 or len(group) * max(lengths[index] for index in group) <= max_frames


def test_a_split_wastes_no_rank_it_can_use() -> None:
    assert all(group for rank in deal((400,) * 8, 10**6, 4) for group in rank)
    assert [len(rank[0]) for rank in deal((400,) * 8, 10**6, 4)] == [2, 2, 2, 2]
    assert sorted(len(rank[0]) for rank in deal((400,), 10**6, 2)) == [0, 1]


def test_groups_are_packed_longest_first() -> None:
    assert groups((100, 400, 390, 100, 100), 800) == [(1, 2), (0, 3, 4)]


@pytest.mark.parametrize(
    ("songs", "share", "held"), [(4, 0.1, 0), (5, 0.1, 1), (20, 0.1, 2), (30, 0.0, 0), (6, 0.99, 5)]
)
def test_songs_are_held_out_by_song(songs: int, share: float, held: int) -> None:
    names = [f"{index}.wav" for index in range(songs)]
    training, validation = held_out(names, share)
    assert len(validation) == held and sorted(training + validation) == list(range(songs))
    reordered, again = held_out(names[::-1], share)
    assert {names[::-1][index] for index in again} == {names[index] for index in validation}
    assert len(reordered) == len(training)
