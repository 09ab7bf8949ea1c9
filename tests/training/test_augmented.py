"""Training on windows and wordings: what a visit takes is its own, whatever batches, ranks, workers and restarts."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import fabricate
import pytest
import torch
from fabricate import FRAME_RATE, WIDTH
from runs import Done, adapter, metrics, train, train_from_the_shell
from torch import Tensor

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.data.cache import Cache
from acetrain.data.loader import Steps
from acetrain.data.store import Store
from acetrain.data.variants import Variants, Windows, Wordings
from acetrain.flow.loss import Reduction
from acetrain.training import memory

FRAMES = 60
CROP = f"data.crop_seconds={FRAMES / FRAME_RATE}"
HEAD, TEXTS, LYRICS = 20, [9, 12, 30], [7, 31]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six songs of 100 to 220 frames, each with windows, wordings and a genre."""
    folder = fabricate.cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)
    cache = Cache.open(folder)
    store = Store(folder, cache.fingerprint)
    windows = Windows(FRAMES, Wordings([2, 3], 1), [0, 13, 35], [1, 0, 2])
    rows = []
    for number, song in enumerate(cache.songs):
        draw = torch.Generator().manual_seed(number)
        sizes = {f"text.{n}": rows for n, rows in enumerate(TEXTS, 1)} | {
            f"lyrics.{n}": rows for n, rows in enumerate(LYRICS, 1)
        }
        parts = {name: torch.randn(rows, WIDTH, generator=draw) for name, rows in sizes.items()}
        variants = Variants(HEAD, TEXTS, LYRICS, Wordings([0, 2], None), windows)
        rows.append(replace(song, genre_share=0.3, variants=variants))
        store.add(rows[-1], *cache.read(song), parts)
    store.finish(rows)
    return folder


def steps(songs: Path, max_frames: int, rank: int = 0, ranks: int = 1, crop: str = CROP) -> Steps:
    asked = [f"cache={songs}", "songs_per_step=3", "data.validation=0", "seed=5", crop]
    job = Composer("train", Sources((PACKAGED,))).compose([read(text) for text in asked]).build()
    job.data.check(job.songs)
    return Steps(job.songs, job.split[0], job.plan, max_frames, rank, ranks, Reduction.song, job.data.cropped)


def taken(*ranks: Steps, count: int = 4) -> dict[tuple, tuple[Tensor, Tensor]]:
    """What each visit of the first steps takes, by its key."""
    found = {}
    for rank in ranks:
        for batch in [batch for index in range(count) for batch in rank._micro_batches(index) if batch.weight]:
            for row, key in enumerate(batch.keys):
                assert key not in found
                parts = batch.latents[row, : batch.frames[row]], batch.condition[row, : batch.tokens[row]]
                found[key] = parts
    return found


def test_what_a_visit_takes_is_its_own(songs: Path) -> None:
    one = taken(steps(songs, 10**6))
    for others in (taken(steps(songs, 1)), taken(steps(songs, 150, 0, 2), steps(songs, 150, 1, 2))):
        assert others.keys() == one.keys() and len(one) == 12
        assert all(torch.equal(a, b) for key in one for a, b in zip(one[key], others[key], strict=True))


def test_every_song_comes_once_an_epoch_in_a_window_of_its_own(songs: Path) -> None:
    seen = taken(steps(songs, 10**6), count=80)
    assert Counter(key[2] for key in seen) == {f"song{number}.wav": 40 for number in range(6)}
    assert {len(latents) for latents, _ in seen.values()} == {FRAMES}
    song0 = {key[1]: parts for key, parts in seen.items() if key[2] == "song0.wav"}
    whole = Cache.open(songs).read(Cache.open(songs).songs[0])[0]
    places = {epoch: int((whole == parts[0][0]).all(1).nonzero()[0]) for epoch, parts in song0.items()}
    assert len(set(places.values())) > 15
    assert all(torch.equal(whole[place : place + FRAMES], song0[epoch][0]) for epoch, place in places.items())
    heads = {epoch: LYRICS[0] if place < 13 else HEAD if place < 35 else LYRICS[1] for epoch, place in places.items()}
    tails = Counter(len(parts[1]) - heads[epoch] for epoch, parts in song0.items())
    assert set(tails) == set(TEXTS) and tails[TEXTS[0]] < 25


def test_steps_are_planned_by_the_length_of_the_windows(songs: Path) -> None:
    assert set(steps(songs, 1).plan.lengths) == {FRAMES}
    whole = steps(songs, 1, crop="data.crop_seconds=null").plan.lengths
    assert set(whole) == {song.frames for song in Cache.open(songs).songs}


def test_other_windows_are_another_run(songs: Path) -> None:
    def identity(*asked: str) -> dict:
        composed = Composer("train", Sources((PACKAGED,))).compose([read(text) for text in (f"cache={songs}", *asked)])
        return composed.build().folder.identity

    windows, whole = identity(CROP), identity()
    assert {key for key in windows if windows[key] != whole[key]} == {"data.crop_seconds"}


def test_windows_that_the_cache_lacks_are_refused(songs: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", f"cache={songs}", "data.crop_seconds=1.1", f"out_dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("data.crop_seconds: must be as the cache was encoded; song0.wav has windows of")
    assert len(told.splitlines()) == 2 and not (tmp_path / "run").exists()


def finished(done: Done) -> bool:
    assert done.returncode == 0, done.stderr
    return True


@pytest.mark.slow
def test_a_run_on_windows_resumes_to_the_bit_and_is_the_same_on_two_ranks(songs: Path, tmp_path: Path) -> None:
    straight, stopped, split = tmp_path / "straight", tmp_path / "stopped", tmp_path / "split"
    assert finished(train(songs, straight, CROP, "max_steps=7"))
    assert finished(train(songs, stopped, CROP, "max_steps=4"))
    assert finished(train(songs, stopped, CROP, "max_steps=7", "data.workers=2"))
    ours, theirs = adapter(stopped), adapter(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [row["loss"] for row in metrics(stopped)] == [row["loss"] for row in metrics(straight)]
    assert finished(train_from_the_shell(songs, split, CROP, "max_steps=7", "trainer.devices=2", "data.max_frames=1"))
    for one, two in zip(metrics(straight), metrics(split), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-4) and one["frames"] == two["frames"]


def test_the_memory_is_estimated_for_what_visits_take(songs: Path) -> None:
    def of(*more: str) -> Any:
        asked = [f"cache={songs}", "data.max_frames=600", *more]
        return Composer("train", Sources((PACKAGED,))).compose([read(text) for text in asked]).build()

    cached = of().songs.songs
    rows = max(song.most_tokens for song in cached)
    assert memory.longest(of()) == memory.Batch(1, max(song.frames for song in cached), rows)
    assert memory.longest(of(CROP)).frames == FRAMES
    assert memory.of(of(CROP)).activations < memory.of(of()).activations
