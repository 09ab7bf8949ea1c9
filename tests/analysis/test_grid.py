"""Which visits there are: the same times for all songs, halves that share no song, weights that make up a mean."""

import math
from dataclasses import replace

import pytest
from fabricate import ACESTEP

from acetrain.analysis.grid import LEAST_VISITS, MOST_GROUPS, Grid
from acetrain.data.index import CachedSong
from acetrain.flow.loss import Reduction


def songs(count: int) -> list[CachedSong]:
    return [
        CachedSong(f"{index}.wav", f"songs/{index}", 100 + index, 40, 5.0, audio="0" * 64, text="0" * 64)
        for index in range(count)
    ]


def grid(count: int, draws: int | None = None, reduction: Reduction = Reduction.song, seed: int = 0) -> Grid:
    return Grid(songs(count), ACESTEP, reduction, bins=4, draws=draws, seed=seed)


@pytest.mark.parametrize("count", [1, 3, 4, 9, 100])
def test_each_unit_is_a_mean_over_its_half(count: int) -> None:
    found = grid(count)
    assert len(found.units) == 8 and len({unit.name for unit in found.units}) == 8
    for unit in found.units:
        assert sum(visit.weight for visit in unit.visits) == pytest.approx(1)
        assert len(unit.visits) == len(found.halves[unit.half]) * found.draws_each >= LEAST_VISITS
        for group, share in enumerate(unit.shares):
            assert sum(visit.weight for visit in unit.visits if visit.group == group) == pytest.approx(share)
        assert 2 <= len(unit.shares) == found.groups(unit.half) <= MOST_GROUPS


def test_from_four_songs_on_the_halves_share_no_song() -> None:
    found = grid(9)
    names = [{song.name for song in half} for half in found.halves]
    assert found.over_songs and not names[0] & names[1] and len(names[0] | names[1]) == 9
    assert abs(len(names[0]) - len(names[1])) <= 1
    assert [half[0].name for half in grid(9, seed=1).halves] != [half[0].name for half in found.halves]


def test_below_four_songs_both_halves_hear_all_with_noise_of_their_own() -> None:
    found = grid(3)
    noises = [{(visit.song.name, visit.noise) for visit in unit.visits} for unit in found.units]
    assert not found.over_songs and sum(map(len, noises)) == len(set.union(*noises))
    for unit in found.units:
        assert {visit.song.name for visit in unit.visits} == {"0.wav", "1.wav", "2.wav"}
        assert all(visit.group == visit.noise[1] for visit in unit.visits)


def test_times_are_the_same_for_all_songs_and_halves_and_lie_in_their_bins() -> None:
    found = grid(6, draws=3)
    edges = found.edges
    assert edges == sorted(edges) and len(edges) == 5
    for unit in found.units:
        times = {visit.t for visit in unit.visits}
        assert times == set(found.times(unit.bin)) and len(times) == 3
        assert all(edges[unit.bin] < t < edges[unit.bin + 1] for t in times)
        for song in found.halves[unit.half]:
            assert {visit.t for visit in unit.visits if visit.song.name == song.name} == times


def test_songs_count_as_in_training() -> None:
    repeated = [replace(song, repeat=3 if song.name == "1.wav" else 1) for song in songs(5)]
    by_song = replace(grid(5), songs=repeated)
    by_frame = replace(grid(5, reduction=Reduction.frame), songs=repeated)
    for found, counted in ((by_song, lambda song: song.repeat), (by_frame, lambda song: song.repeat * song.frames)):
        for unit in found.units:
            ratios = [visit.weight / counted(visit.song) for visit in unit.visits]
            assert max(ratios) == pytest.approx(min(ratios))


def test_few_songs_are_visited_more_often_unless_told() -> None:
    assert [grid(count).draws_each for count in (1, 2, 4, 8, 40)] == [8, 4, 4, 2, 1]
    assert grid(1, draws=2).draws_each == 2 and math.isclose(sum(grid(1, draws=2).units[0].shares), 1)
