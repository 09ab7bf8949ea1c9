"""The cache: relocatable, checked before use, and refused with the reason where it does not fit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import CHANNELS, FRAME_RATE, WIDTH
from safetensors.torch import load_file, save_file

from acetrain.acestep import weights
from acetrain.acestep.model import Tiny
from acetrain.atomic import PARTIAL
from acetrain.data import cache as cache_module
from acetrain.data.cache import Cache
from acetrain.data.store import Store, path_of
from acetrain.errors import Refused
from acetrain.tensorfile import read_header


@pytest.fixture
def copied(tiny_cache: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_cache, tmp_path / "elsewhere" / "cache"))


def test_songs_are_read_as_the_index_says(tiny_cache: Path, tiny: Tiny) -> None:
    cache = Cache.open(tiny_cache)
    assert [song.name for song in cache.songs] == sorted(song.name for song in cache.songs) and len(cache.songs) == 6
    for song in cache.songs:
        latents, condition = cache.read(song)
        assert latents.shape == (song.frames, CHANNELS) and condition.shape == (song.tokens, WIDTH)
        assert latents.dtype == condition.dtype == torch.float32
        assert song.seconds == song.frames / FRAME_RATE
    assert {song.name: song.frames for song in cache.songs}["sub/d e.opus"] == int(3.1 * FRAME_RATE)
    fingerprint = cache.fingerprint
    assert (fingerprint.variant, fingerprint.timbre, fingerprint.frame_rate) == ("tiny", "silence", FRAME_RATE)
    assert fingerprint.weights == weights.hash_weights(tiny.checkpoint)


def test_it_lies_anywhere(tiny_cache: Path, copied: Path, tiny: Tiny) -> None:
    here, there = Cache.open(tiny_cache), Cache.open(copied)
    assert here.digest() == there.digest()
    there.check_model(tiny)
    song = there.songs[0]
    assert all(torch.equal(a, b) for a, b in zip(here.read(song), there.read(song), strict=True))


def test_the_digest_covers_songs_and_encoding_but_not_the_memory_of_files(tiny_cache: Path) -> None:
    cache = Cache.open(tiny_cache)
    first, *rest = cache.songs
    same = [
        replace(cache, songs=(*rest, first)),
        replace(cache, fingerprint=replace(cache.fingerprint, weights_files=[["x", 1, 2]])),
    ]
    others = [replace(cache, songs=tuple(rest))]
    others += [replace(cache, songs=(replace(first, **{key: "0"}), *rest)) for key in ("audio", "text", "name")]
    others += [replace(cache, songs=(replace(first, **change), *rest)) for change in ({"repeat": 2}, {"crop": 1.0})]
    others += [
        replace(cache, fingerprint=replace(cache.fingerprint, **{key: value}))
        for key, value in {"weights": "0", "template": "0", "timbre": "x", "seed": 1, "precision": "bf16"}.items()
    ]
    assert {each.digest() for each in same} == {cache.digest()}
    assert len({each.digest() for each in others} | {cache.digest()}) == 1 + len(others)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "index.json"
    index = json.loads(file.read_text())
    change(index)
    file.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(format=1), "has format 1, this version reads 2"),
        (lambda index: index.pop("songs"), "is not the index of a cache"),
        (lambda index: index.update(songs=[]), "holds no song"),
        (lambda index: index["songs"][0].pop("frames"), "fields frames do not match"),
        (lambda index: index["songs"][0].update(frames="9"), "frames is '9'"),
        (lambda index: index["songs"][0].update(frames=10**6), r"is not as its index says \(preprocess again"),
        (lambda index: index["fingerprint"].update(more=1), "fields more do not match"),
        (
            lambda index: index["songs"].append(index["songs"][0] | {"name": "z", "file": "songs/x.safetensors"}),
            "is missing",
        ),
        (lambda index: index["songs"].append(index["songs"][-1]), "is out of order"),
        (lambda index: index["songs"][1].update(repeat=0), "or counts less than one frame, token or repeat"),
    ],
)
def test_an_index_that_is_not_right_is_refused(copied: Path, change: Callable, message: str) -> None:
    edit(copied, change)
    with pytest.raises(Refused, match=message):
        Cache.open(copied)


@pytest.mark.parametrize("edited", [{"text": "1" * 64}, {"audio": "1" * 64}, {"seconds": 1.5}])
def test_a_song_encoded_again_without_its_index_is_refused(copied: Path, edited: dict[str, Any]) -> None:
    cache = Cache.open(copied)
    song = replace(cache.songs[0], **edited)
    store = Store(copied, cache.fingerprint)
    store.add(song, *cache.read(cache.songs[0]))
    with pytest.raises(Refused, match=r"is not as its index says \(preprocess again to complete it\)"):
        Cache.open(copied)
    store.finish([song, *cache.songs[1:]])
    assert song in Cache.open(copied).songs


def test_another_song_put_in_its_place_is_refused(copied: Path) -> None:
    cache = Cache.open(copied)
    song = cache.songs[0]
    Store(copied, cache.fingerprint).add(replace(song, audio="1" * 64), *cache.read(song))
    with pytest.raises(Refused, match=f"cache: {song.name}: .* is not as its index says"):
        cache.read(song)


def test_what_a_killed_writer_left_goes_when_its_song_is_written(copied: Path) -> None:
    cache = Cache.open(copied)
    song = cache.songs[0]
    file = copied / song.file
    left = file.with_name(f"{PARTIAL}abc-{file.name}")
    left.write_bytes(b"half")
    Store(copied, cache.fingerprint).add(song, *cache.read(song))
    assert not left.exists() and file.is_file()


@pytest.mark.parametrize("record", ["[" * 9999, "7", "null"])
def test_a_record_that_is_none_is_refused(copied: Path, record: str) -> None:
    file = copied / Cache.open(copied).songs[0].file
    save_file(load_file(file), file, metadata={"record": record})
    with pytest.raises(Refused, match="is cut short or not a song's"):
        Cache.open(copied)


def test_a_song_cut_short_is_refused(copied: Path) -> None:
    file = copied / Cache.open(copied).songs[0].file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Refused, match="is cut short"):
        Cache.open(copied)


def test_what_is_no_cache_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"none has no index.json \(preprocess makes one\)"):
        Cache.open(tmp_path / "none")
    (copied / "index.json").unlink()
    with pytest.raises(Refused, match=r"interrupted: run it again"):
        Cache.open(copied)
    (copied / "index.json").write_text("{")
    with pytest.raises(Refused, match="is not the index of a cache"):
        Cache.open(copied)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors["latents"].fill_(float("nan")), "holds non-finite values"),
        (lambda tensors: tensors["condition"][-1].fill_(float("inf")), "holds non-finite values"),
        (lambda tensors: tensors.update(latents=tensors["latents"][:-1].clone()), "has other shapes"),
        (lambda tensors: tensors.pop("condition"), "cannot be read"),
    ],
)
def test_a_song_that_is_not_right_is_refused_by_name(copied: Path, damage: Callable, message: str) -> None:
    cache = Cache.open(copied)
    song = cache.songs[2]
    tensors = load_file(copied / song.file)
    damage(tensors)
    save_file(tensors, copied / song.file, metadata=read_header(copied / song.file).metadata)
    with pytest.raises(Refused, match=f"cache: {song.name}: .* {message}"):
        cache.read(song)


def test_another_model_is_refused(copied: Path, tiny: Tiny, tmp_path: Path) -> None:
    cache = Cache.open(copied)
    with pytest.raises(Refused, match="was encoded for variant tiny, the model has base"):
        cache.check_model(replace(tiny, variant="base"))
    other = Path(shutil.copytree(tiny.checkpoint.folder, tmp_path / "other"))
    cache.check_model(replace(tiny, path=str(other)))
    vae = other / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(vae.read_bytes())
    data[-1] ^= 1
    vae.write_bytes(data)
    with pytest.raises(Refused, match="was encoded by other weights than those in"):
        cache.check_model(replace(tiny, path=str(other)))
    config = other / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"decoder_input_channels": 64}))
    with pytest.raises(Refused, match=f"was encoded for latent channels {CHANNELS}, the model has 64"):
        cache.check_model(replace(tiny, path=str(other)))


def test_weights_that_did_not_change_are_not_hashed(tiny_cache: Path, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "hash_weights", lambda folder: pytest.fail("hashed"))
    Cache.open(tiny_cache).check_model(tiny)


def test_a_stored_song_is_found_only_as_it_was_encoded(copied: Path) -> None:
    cache = Cache.open(copied)
    song = cache.songs[0]
    store = Store(copied, cache.fingerprint)
    assert store.find(song.name, song.audio, song.text) == song
    assert store.find(song.name, "0", song.text) is None
    assert store.find(song.name, song.audio, "0") is None
    assert store.find("other.wav", song.audio, song.text) is None
    assert Store(copied, replace(cache.fingerprint, seed=1)).find(song.name, song.audio, song.text) is None
    file = copied / song.file
    file.write_bytes(file.read_bytes()[:-1])
    assert store.find(song.name, song.audio, song.text) is None


def test_a_folder_encoded_otherwise_is_refused(copied: Path) -> None:
    fingerprint = Cache.open(copied).fingerprint
    Store(copied, fingerprint).check()
    with pytest.raises(Refused, match="has seed 0, asked for is 3"):
        Store(copied, replace(fingerprint, seed=3)).check()
    with pytest.raises(Refused, match=r"has weights .*\.\.\., asked for is 0"):
        Store(copied, replace(fingerprint, weights="0")).check()
    (copied / "index.json").unlink()
    Store(copied, fingerprint).check()
    with pytest.raises(Refused, match="was encoded in another way"):
        Store(copied, replace(fingerprint, template="0")).check()


def test_names_do_not_collide() -> None:
    names = ["a.wav", "a.mp3", "b/a.wav", "b_a.wav", "é.wav", "ê.wav", "x" * 300 + ".wav", "x" * 301 + ".wav"]
    paths = [path_of(name) for name in names]
    assert len({path.lower() for path in paths}) == len(names)
    assert all(len(path) < 100 and path.isascii() for path in paths)


def test_a_record_of_another_kind_is_not_taken_for_a_song(copied: Path) -> None:
    cache = Cache.open(copied)
    song, store = cache.songs[0], Store(copied, cache.fingerprint)
    for record in ({"encoding": cache.fingerprint.digest(), "name": song.name}, ["x"]):
        save_file(load_file(copied / song.file), copied / song.file, metadata={"record": json.dumps(record)})
        assert store.find(song.name, song.audio, song.text) is None
