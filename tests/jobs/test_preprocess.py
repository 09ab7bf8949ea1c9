"""`acetrain preprocess`: all faults at once, nothing done twice, and a kill loses nothing that is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoded import encode_condition
from fabricate import FRAME, FRAME_RATE, RATE
from preprocessing import preprocess
from tones import write_tone

from acetrain.acestep.model import Tiny
from acetrain.data import encode
from acetrain.data.cache import Cache
from acetrain.data.songs import scan
from acetrain.errors import Failed, Refused
from acetrain.jobs.preprocess import OnError, Preprocess
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.trainer import Accelerator


@pytest.fixture
def job(tmp_path: Path, songs_folder: Path, tiny: Tiny, fp32: Precision) -> Preprocess:
    """Preprocess the shared songs into a new cache."""
    return preprocess(songs_folder, tmp_path / "cache", tiny, fp32)


def run(job: Preprocess) -> Cache:
    job.check()
    job.run()
    return Cache.open(job.cache)


def contents(cache: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(cache).rglob("*")) if path.is_file()}


@pytest.fixture
def partly(job: Preprocess, tiny_cache: Path) -> Preprocess:
    """A job whose cache lacks two songs and the index; another is cut short."""
    cache = Path(shutil.copytree(tiny_cache, job.cache))
    (cache / "index.json").unlink()
    one, two, three, *_ = sorted((cache / "songs").iterdir())
    one.unlink()
    two.unlink()
    three.write_bytes(three.read_bytes()[:500])
    return job


def test_what_is_cached_is_what_inference_computes(tiny_cache: Path, songs_folder: Path, pipeline) -> None:
    """Law 5, through the whole job."""
    cache = Cache.open(tiny_cache)
    prompts = {song.name: song.prompt for song in scan(songs_folder).songs}
    for song in cache.songs:
        assert torch.equal(
            cache.read(song)[1], encode_condition(pipeline, prompts[song.name], song.frames / FRAME_RATE)
        )


def test_latents_are_those_of_the_audio(tiny_cache: Path, songs_folder: Path, pipeline) -> None:
    from acetrain.data.audio import read

    cache = Cache.open(tiny_cache)
    for song in cache.songs:
        with torch.no_grad():
            samples = torch.from_numpy(read(songs_folder / song.name, RATE))[None, :, : song.frames * FRAME]
            posterior = pipeline.vae.encode(samples).latent_dist
        drawn = (cache.read(song)[0] - posterior.mean[0].T) / posterior.std[0].T
        assert drawn.abs().max() < 6 and 0.8 < drawn.std() < 1.2


def test_only_what_is_missing_is_encoded(partly: Preprocess, tiny_cache: Path, capsys) -> None:
    whole = {path: path.stat().st_mtime_ns for path in sorted((Path(partly.cache) / "songs").iterdir())[1:]}
    run(partly)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert contents(partly.cache) == contents(tiny_cache)
    shown = capsys.readouterr().out
    assert "(3 songs encoded, 3 there already)" in shown and "songs: 6 (12.3 s)" in shown
    assert f"next: acetrain train model=tiny cache={partly.cache}" in shown


def test_a_complete_cache_loads_no_model(partly: Preprocess, tiny_cache: Path, monkeypatch, capsys) -> None:
    shutil.rmtree(partly.cache)
    shutil.copytree(tiny_cache, partly.cache)
    monkeypatch.setattr("acetrain.data.encode.load_component", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("acetrain.jobs.preprocess.hash_weights", lambda *_: pytest.fail("hashed"))
    run(partly)
    assert contents(partly.cache) == contents(tiny_cache)
    assert "(0 songs encoded, 6 there already)" in capsys.readouterr().out


def test_songs_are_the_same_wherever_they_lie(job: Preprocess, tiny_cache: Path, tmp_path: Path) -> None:
    """Neither the place of the songs nor what else is encoded with them changes a song."""
    moved = Path(shutil.copytree(job.songs, tmp_path / "moved"))
    shutil.rmtree(moved / "sub")
    job.songs = str(moved)
    cache = run(job)
    shared = Cache.open(tiny_cache)
    assert cache.songs == shared.songs[:4] and cache.digest() != shared.digest()
    assert all(
        (Path(job.cache) / song.file).read_bytes() == (tiny_cache / song.file).read_bytes() for song in cache.songs
    )


def test_changed_songs_are_encoded_again_and_absent_ones_leave_the_index(job: Preprocess, tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    for name in ("a.wav", "b.wav", "c.wav"):
        write_tone(folder / name, 1.0)
    job.songs = str(folder)
    before = {song.name: song for song in run(job).songs}
    write_tone(folder / "a.wav", 1.4)
    (folder / "b.caption.txt").write_text("another caption")
    (folder / "c.wav").unlink()
    after = {song.name: song for song in run(job).songs}
    assert sorted(after) == ["a.wav", "b.wav"]
    assert (after["a.wav"].frames, after["a.wav"].text) == (int(1.4 * FRAME_RATE), before["a.wav"].text)
    assert (after["b.wav"].audio, after["b.wav"].text == before["b.wav"].text) == (before["b.wav"].audio, False)


@pytest.fixture
def faulty(job: Preprocess, tmp_path: Path) -> Preprocess:
    """Two good songs among five bad ones."""
    folder = tmp_path / "faulty"
    for name in ("good.wav", "fine.flac", "mute.wav", "nan.wav", "fast.wav"):
        write_tone(folder / name, 1.0)
    (folder / "mute.caption.txt").unlink()
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    (folder / "fast.json").write_text('{"bpm": 1000}')
    soundfile.write(folder / "fast.wav", np.zeros((16000, 4)), 16000)
    for name in ("empty.wav", "text.mp3"):
        (folder / name).write_text("" if name == "empty.wav" else "not audio")
        (folder / name).with_suffix(".caption.txt").write_text("x")
    job.songs = str(folder)
    return job


FAULTS = [
    "  empty.wav: is empty",
    "  fast.wav: fast.json: bpm: must be a number from 30 to 300, got 1000; has 4 channels; mix it down to stereo",
    "  mute.wav: no caption (write mute.caption.txt)",
    "  nan.wav: holds non-finite samples",
]


def test_all_faults_are_reported_at_once_and_nothing_is_created(faulty: Preprocess, tmp_path: Path, capsys) -> None:
    before = contents(tmp_path)
    faulty.check()
    with pytest.raises(Refused) as refusal:
        faulty.run()
    assert str(refusal.value) == f"songs: 5 in {faulty.songs} cannot be used (on_error=skip leaves them out)"
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == FAULTS and lines[4].startswith("  text.mp3: cannot be decoded")
    assert contents(tmp_path) == before and not Path(faulty.cache).exists()


def test_skipping_leaves_out_what_cannot_be_used_and_says_so(faulty: Preprocess, capsys) -> None:
    faulty.on_error = OnError.skip
    assert [song.name for song in run(faulty).songs] == ["fine.flac", "good.wav"]
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("left out:")][:4] == [f"left out:{line}" for line in FAULTS]


def test_skipping_everything_is_refused(faulty: Preprocess) -> None:
    faulty.on_error = OnError.skip
    for name in ("good.wav", "fine.flac"):
        (Path(faulty.songs) / name).unlink()
    with pytest.raises(Refused, match=r"5 in .* cannot be used$"):
        faulty.run()
    assert not Path(faulty.cache).exists()


@pytest.mark.parametrize(
    ("what", "on_error"),
    [("latents", OnError.stop), ("condition", OnError.skip)],
)
def test_non_finite_results_are_reported_by_song(
    job: Preprocess, monkeypatch, capsys, on_error: OnError, what: str
) -> None:
    original = getattr(encode, f"encode_{what}")
    calls = []

    def spoilt(*arguments):
        calls.append(arguments)
        result = original(*arguments)
        return result * float("nan") if len(calls) in (2, 4) else result

    monkeypatch.setattr(encode, f"encode_{what}", spoilt)
    job.on_error = on_error
    message = f"a.wav: its {what} came out non-finite; try precision=fp32"
    if on_error is OnError.stop:
        with pytest.raises(Failed) as failure:
            run(job)
        assert str(failure.value).startswith("songs: 2 in")
        assert f"  {message}\n  {message.replace('a.wav', 'c.ogg')}\n" in capsys.readouterr().err
        assert not (Path(job.cache) / "index.json").exists() and len(contents(job.cache)) == 4
    else:
        assert len(run(job).songs) == 4
        assert f"left out:  {message}" in capsys.readouterr().err


def test_a_cache_of_nothing_is_not_written(job: Preprocess, tmp_path: Path, monkeypatch) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 1.0)
    monkeypatch.setattr(encode, "encode_condition", lambda *_: torch.full((3, 64), float("nan")))
    with pytest.raises(Failed, match=r"songs: none in .* could be encoded"):
        run(replace(job, songs=str(tmp_path / "songs"), on_error=OnError.skip))
    assert not Path(job.cache).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "has seed 0, asked for is 5"),
        ({"precision": Precision(Format.bf16, Format.bf16, Quantised.none)}, "has precision fp32, asked for is bf16"),
        ({"model": Tiny("other", "", 4, 1.0, 1.0)}, "has variant tiny, asked for is other"),
    ],
)
def test_a_cache_encoded_otherwise_is_not_overwritten(job: Preprocess, tiny_cache: Path, change, message) -> None:
    shutil.copytree(tiny_cache, job.cache)
    with pytest.raises(Refused, match=message):
        run(replace(job, **change))
    assert contents(job.cache) == contents(tiny_cache)


def test_texts_that_are_cut_off_are_told(job: Preprocess, tmp_path: Path, capsys) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 1.0)
    (tmp_path / "songs" / "a.caption.txt").write_text("many words " * 200)
    job.songs = str(tmp_path / "songs")
    run(job)
    assert "warning, cut off:  a.wav: caption has" in capsys.readouterr().err


def test_bf16_encodes_too(job: Preprocess, tiny_cache: Path, tmp_path: Path) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 1.0)
    job.songs, job.precision = str(tmp_path / "songs"), Precision(Format.bf16, Format.bf16, Quantised.none)
    cache = run(job)
    latents, condition = cache.read(cache.songs[0])
    assert cache.fingerprint.precision == "bf16" and latents.dtype == condition.dtype == torch.float32


def test_a_dataset_file_and_a_cache_among_the_songs(job: Preprocess, tmp_path: Path) -> None:
    write_tone(tmp_path / "songs" / "a.wav", 1.0)
    samples = [{"audio_path": "a.wav", "caption": "from the list", "bpm": 90}]
    (tmp_path / "songs" / "dataset.json").write_text(json.dumps({"metadata": {}, "samples": samples}))
    job.songs, job.cache = str(tmp_path / "songs" / "dataset.json"), str(tmp_path / "songs" / "cache")
    listed = run(job).songs[0]
    job.songs = str(tmp_path / "songs")
    scanned = run(job).songs
    assert [song.name for song in scanned] == ["a.wav"] and scanned[0].text != listed.text


@pytest.mark.parametrize("key", ["songs", "cache"])
def test_empty_paths_are_refused(job: Preprocess, key: str) -> None:
    with pytest.raises(Refused, match=f"{key}: must be a folder"):
        replace(job, **{key: ""})


def test_unfit_paths_are_refused_without_reading_audio(job: Preprocess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"cache: .*file is a file; a folder is needed"):
        replace(job, cache=str(tmp_path / "file" / "cache")).check()
    with pytest.raises(Refused, match=r"songs: .*none does not exist"):
        replace(job, songs=str(tmp_path / "none")).check()
    with pytest.raises(Refused, match="accelerator: gpu was asked for"):
        run(replace(job, accelerator=Accelerator.gpu)) if not torch.cuda.is_available() else pytest.skip("has a GPU")


def start(job: Preprocess) -> subprocess.Popen:
    """The same job in a process that can be killed."""
    command = [sys.executable, "-m", "acetrain", "preprocess", f"songs={job.songs}", f"cache={job.cache}"]
    return subprocess.Popen([*command, "accelerator=cpu"], env=os.environ, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "least"), [("latents", 2), ("prompts", 1)])
def test_a_kill_between_passes_loses_no_pass(job: Preprocess, tiny_cache: Path, monkeypatch, part, least) -> None:
    process = start(job)
    staged = Path(job.cache) / "staging"
    deadline = time.monotonic() + 120
    while len(list(staged.glob(f"[!.]*.{part}.*"))) < least and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = len(list(staged.glob(f"[!.]*.{part}.*")))
    assert whole >= least and not (Path(job.cache) / "index.json").exists()
    calls = []
    name = {"latents": "encode_latents", "prompts": "encode_prompt"}[part]
    original = getattr(encode, name)
    monkeypatch.setattr(encode, name, lambda *given: calls.append(given) or original(*given))
    run(job)
    assert len(calls) == 6 - whole
    assert contents(job.cache) == contents(tiny_cache) and not staged.exists()


def test_one_model_at_a_time_is_in_memory(job: Preprocess, monkeypatch) -> None:
    alive, most = weakref.WeakSet(), []
    for name in ("load_component", "load_text_pipeline", "load_condition_encoder"):
        original = getattr(encode, name)

        def watched(*given, original=original):
            most.append(len(alive))
            loaded = original(*given)
            alive.add(loaded)
            return loaded

        monkeypatch.setattr(encode, name, watched)
    run(job)
    assert most == [0, 0, 0] and not alive


def test_a_kill_loses_nothing_that_is_whole(job: Preprocess, tiny_cache: Path) -> None:
    process = start(job)
    songs = Path(job.cache) / "songs"
    deadline = time.monotonic() + 120
    while not list(songs.glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = {path: path.stat().st_mtime_ns for path in songs.glob("[!.]*")}
    assert 1 <= len(left) < 6 and not (Path(job.cache) / "index.json").exists()
    run(job)
    assert {path: path.stat().st_mtime_ns for path in left} == left
    assert contents(job.cache) == contents(tiny_cache)
