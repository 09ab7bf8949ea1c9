"""`acetrain adopt`: other trainers' folders become caches that train, their songs trimmed and nothing else."""

import json
import os
import re
import shlex
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pickled import manifest, official, sample, save, side_step, trimmed
from runs import acetrain, adapter, launch, metrics, train

from acetrain.acestep.model import Tiny
from acetrain.cli import main
from acetrain.data.cache import Cache
from acetrain.data.store import Store
from acetrain.errors import Failed, Refused
from acetrain.jobs.adopt import Adopt
from acetrain.jobs.preprocess import OnError


@pytest.fixture
def job(tmp_path: Path, tiny: Tiny) -> Adopt:
    """Adopt `tensors` into a new cache."""
    return Adopt(str(tmp_path / "tensors"), str(tmp_path / "cache"), OnError.stop, tiny)


def run(job: Adopt) -> Cache:
    job = replace(job)
    job.check()
    job.run()
    return Cache.open(job.cache)


def contents(folder: str | Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@pytest.mark.parametrize("write", [official, side_step])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_song_is_what_its_masks_keep_to_the_bit(job: Adopt, write, dtype: torch.dtype) -> None:
    samples = write(Path(job.tensors), 4, dtype)
    cache = run(job)
    by_name = {made["metadata"]["filename"]: made for made in samples.values()}
    assert [song.name for song in cache.songs] == sorted(by_name)
    for song in cache.songs:
        latents, condition = cache.read(song)
        expected = trimmed(by_name[song.name])
        assert torch.equal(latents, expected[0]) and torch.equal(condition, expected[1])
        assert (song.frames, song.tokens) == (len(latents), len(condition))
        assert song.seconds == song.frames / cache.fingerprint.frame_rate
    assert len({song.audio for song in cache.songs}) == 4


def test_songs_are_repeated_as_they_say(job: Adopt) -> None:
    names = list(side_step(Path(job.tensors), 2))
    often = sample(60, 30, seed=1)
    often["metadata"]["repeat"] = 3
    save(Path(job.tensors), {names[1]: often})
    assert [song.repeat for song in run(job).songs] == [1, 3]
    assert [song.repeat for song in run(job).songs] == [1, 3], "those that were there already"


def test_the_fingerprint_tells_what_is_known_and_no_more(job: Adopt, tiny: Tiny) -> None:
    official(Path(job.tensors), 2)
    cache = run(job)
    found = cache.fingerprint
    assert found.is_foreign and (found.variant, found.timbre, found.template) == ("tiny", "zeros", "official trainer")
    assert (found.weights, found.weights_files, found.precision, found.seed) == ("unknown", [], "unknown", -1)
    cache.check_model(tiny)
    cache.check_template("any")
    with pytest.raises(Refused, match="was encoded for variant tiny, the model has base"):
        cache.check_model(replace(tiny, variant="base"))


def test_what_was_encoded_otherwise_is_told(job: Adopt, capsys) -> None:
    official(Path(job.tensors), 2)
    run(job)
    out, err = capsys.readouterr()
    assert err.count("warning: ") == 1
    assert all(f"  {what}: " in err for what in ("timbre", "lyrics", "padding", "duration", "language"))
    assert "better: acetrain preprocess model=tiny songs=SONGS" in err
    assert f"cache: {job.cache} (2 songs converted, 0 there already)" in out
    assert f"next: acetrain train model=tiny cache={job.cache}" in out


def test_a_whole_song_is_not_converted_again(job: Adopt, capsys) -> None:
    official(Path(job.tensors), 5)
    first = run(job)
    one, two, three, *_ = sorted((Path(job.cache) / "songs").iterdir())
    before = contents(job.cache)
    (Path(job.cache) / "index.json").unlink()
    one.unlink()
    two.write_bytes(two.read_bytes()[:200])
    kept = three.stat().st_mtime_ns
    capsys.readouterr()
    assert run(job).digest() == first.digest() and contents(job.cache) == before
    assert three.stat().st_mtime_ns == kept
    assert "(2 songs converted, 3 there already)" in capsys.readouterr().out


def test_changed_files_are_converted_again_and_absent_ones_leave(job: Adopt) -> None:
    folder = Path(job.tensors)
    names = list(side_step(folder, 3))
    before = {song.name: song for song in run(job).songs}
    save(folder, {names[0]: sample(77, 30, seed=0)})
    (folder / names[2]).unlink()
    after = {song.name: song for song in run(job).songs}
    assert sorted(after) == ["song0.wav", "song1.wav"]
    assert after["song0.wav"].frames == 77 and after["song1.wav"] == before["song1.wav"]


def test_a_cache_lies_the_same_wherever_the_tensors_lay(job: Adopt, tmp_path: Path, capsys) -> None:
    official(Path(job.tensors), 3, where="C:\\Users\\Ann\\tensors")
    first = run(job)
    assert "3 files: listed in manifest.json in another place" in capsys.readouterr().err
    moved = shutil.copytree(job.tensors, tmp_path / "moved")
    second = run(replace(job, tensors=str(moved), cache=str(tmp_path / "other")))
    assert first.digest() == second.digest()


def test_names_are_unique(job: Adopt) -> None:
    made = {name: sample(60, 30, seed=7) for name in ("a.pt", "b.pt", "c.pt")}
    made["c.pt"]["metadata"] = {}
    save_in(Path(job.tensors), made)
    assert [song.name for song in run(job).songs] == ["c.pt", "song7.wav (a.pt)", "song7.wav (b.pt)"]


def save_in(folder: Path, made: dict) -> None:
    folder.mkdir()
    save(folder, made)


def test_dropped_conditions_and_files_left_out_are_told(job: Adopt, capsys) -> None:
    side_step(Path(job.tensors), 4)
    shutil.copy(Path(job.tensors) / "song0.pt", Path(job.tensors) / "song9.tmp.pt")
    assert len(run(job).songs) == 4
    told = capsys.readouterr().err
    assert "1 file: encoded by half (song9.tmp.pt), left out\n" in told
    assert "2 files: hold a second condition, from the genre; the caption's is taken\n" in told


@pytest.fixture
def faulty(job: Adopt) -> Adopt:
    """Two good files among four bad ones."""
    folder = Path(job.tensors)
    names = list(official(folder, 5))
    whole = (folder / names[0]).read_bytes()
    (folder / names[0]).write_bytes(whole[: len(whole) // 2])
    save(folder, {names[1]: sample(60, 30) | {"target_latents": torch.zeros(3)}})
    (folder / names[2]).write_text("text")
    save(folder, {"silence_latent.pt": torch.zeros(2)})
    manifest(folder, [*names, "silence_latent.pt", "gone.pt"])
    return job


def test_all_faults_are_told_at_once_and_nothing_is_created(faulty: Adopt, tmp_path: Path, capsys) -> None:
    before = contents(tmp_path)
    with pytest.raises(Refused) as refusal:
        run(faulty)
    assert str(refusal.value) == f"tensors: 4 files in {faulty.tensors} cannot be used (on_error=skip leaves them out)"
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0].strip() for line in lines] == [
        "1 file",
        "00ab12cd.pt",
        "01ab12cd.pt",
        "02ab12cd.pt",
        "silence_latent.pt",
    ]
    assert contents(tmp_path) == before and not Path(faulty.cache).exists()


def test_skipping_leaves_out_what_cannot_be_used_and_says_so(faulty: Adopt, capsys) -> None:
    assert [song.name for song in run(replace(faulty, on_error=OnError.skip)).songs] == ["song3.wav", "song4.wav"]
    assert capsys.readouterr().err.count("left out:  ") == 4


def test_a_folder_of_nothing_usable_is_refused(job: Adopt) -> None:
    save_in(Path(job.tensors), {"a.pt": {}})
    with pytest.raises(Refused, match=r"1 files? in .* cannot be used$"):
        run(replace(job, on_error=OnError.skip))
    assert not Path(job.cache).exists()


def test_tensors_of_another_variant_are_refused_where_they_tell(job: Adopt) -> None:
    side_step(Path(job.tensors), 2, variant="xl-turbo")
    with pytest.raises(Refused, match=r"preprocess_meta.json in .* encoded by xl_turbo, asked for is tiny"):
        run(job)


def test_a_cache_of_another_encoding_is_not_touched(job: Adopt, tiny_cache: Path) -> None:
    side_step(Path(job.tensors), 2)
    shutil.copytree(tiny_cache, job.cache)
    before = contents(job.cache)
    with pytest.raises(Refused, match=r"cache: .* has weights .*, asked for is unknown"):
        run(job)
    assert contents(job.cache) == before


def test_a_folder_is_not_adopted_into_itself(job: Adopt) -> None:
    with pytest.raises(Refused, match="cache: must be another folder than tensors"):
        replace(job, cache=f"{job.tensors}/../tensors")
    for key in ("tensors", "cache"):
        with pytest.raises(Refused, match=f"{key}: must be a folder"):
            replace(job, **{key: ""})


@pytest.fixture(scope="module")
def adopted(tmp_path_factory) -> Path:
    """A cache that the command itself made of an official folder. Not to be changed."""
    here = tmp_path_factory.mktemp("adopted")
    official(here / "tensors", 6)
    done = acetrain("adopt", "model=tiny", f"tensors={here / 'tensors'}", f"cache={here / 'cache'}")
    assert done.returncode == 0 and done.stderr.count("warning: ") == 1, done.stderr
    return here / "cache"


def test_training_warns_once_and_learns(adopted: Path, tmp_path: Path) -> None:
    done = train(adopted, tmp_path / "run", "model=tiny", "max_steps=4")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: ") == 1 and f"warning: the songs of {adopted} were encoded by" in done.stderr
    assert len(metrics(tmp_path / "run")) == 4
    assert any(tensor.any() for name, tensor in adapter(tmp_path / "run").items() if "lora_B" in name)
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["cache"] == Cache.open(adopted).digest()
    again = train(adopted, tmp_path / "run", "model=tiny", "max_steps=4")
    assert "nothing left to do" in again.stdout and "warning: " not in again.stderr


def test_training_says_how_to_convert_what_is_not_a_cache(tmp_path: Path) -> None:
    folder = tmp_path / "my tensors"
    side_step(folder, 2)
    before = contents(tmp_path)
    done = train(folder, tmp_path / "run", "model=tiny")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "run").exists() and before.items() <= contents(tmp_path).items()
    command = shlex.split(done.stderr.split("convert them: acetrain ")[1])
    assert command == ["adopt", "model=tiny", f"tensors={folder}", f"cache={folder}_adopted"]
    assert acetrain(*command).returncode == 0
    assert len(Cache.open(f"{folder}_adopted").songs) == 2


def test_a_kill_loses_nothing_that_is_whole(tmp_path: Path, job: Adopt) -> None:
    official(Path(job.tensors), 50)
    under_way = launch(tmp_path / "log.err", "adopt", "model=tiny", f"tensors={job.tensors}", f"cache={job.cache}")
    songs = Path(job.cache) / "songs"
    deadline = time.monotonic() + 60
    while not list(songs.glob("[!.]*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    under_way.send(signal.SIGKILL)
    under_way.wait()
    left = {path: path.stat().st_mtime_ns for path in songs.glob("[!.]*")}
    assert 1 <= len(left) < 50 and not (Path(job.cache) / "index.json").exists()
    assert len(run(job).songs) == 50
    assert {path: path.stat().st_mtime_ns for path in left} == left


def test_a_file_that_changes_while_it_is_converted_is_not_taken(job: Adopt, monkeypatch) -> None:
    official(Path(job.tensors), 3)
    add = Store.add

    def spoil(store: Store, *arguments) -> None:
        add(store, *arguments)
        for file in Path(job.tensors).glob("*.pt"):
            file.write_bytes(b"")

    monkeypatch.setattr(Store, "add", spoil)
    with pytest.raises(Failed, match="changed while the folder was converted"):
        run(job)
    assert not (Path(job.cache) / "index.json").exists()


BAD = [
    ("adopt cache=x", r"tensors: must be given, text"),
    ("adopt tensors=t", r"cache: must be given, text"),
    ("adopt tensors= cache=x", r"tensors: must be a folder of .pt files, got ''"),
    ("adopt tensors=nowhere cache=x", r"tensors: nowhere does not exist"),
    ("adopt tensors=file cache=x", r"tensors: file is a file; a folder is needed"),
    ("adopt tensors=empty cache=x", r"tensors: empty holds no .pt file of samples"),
    ("adopt tensors=good cache=file", r"cache: file is a file; a folder is needed"),
    ("adopt tensors=good cache=good", r"cache: must be another folder than tensors"),
    ("adopt tensors=good cache=x on_error=maybe", r"on_error: must be one of stop, skip, got 'maybe'"),
    ("adopt tensors=good cache=x model=tny", r"model: there is no option 'tny'; nearest: tiny"),
    ("adopt tensors=good cache=x model=turbo", r"model: acestep-v15-turbo is not in "),
    ("adopt tensors=good cache=broken", r"cache: broken/index.json is not the index of a cache"),
    ("adopt tensors=bad cache=x", r"  cut.pt: is cut short or damaged"),
    ("train cache=good", r"cache: good holds another trainer's .pt files; convert them: acetrain adopt model=tiny ten"),
]
"""Arguments, split at blanks, and what stderr must start with; `model=tiny` where they name no model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working directory of every request."""
    here = tmp_path_factory.mktemp("working")
    side_step(here / "good", 2)
    side_step(here / "bad", 2)
    whole = (here / "bad" / "song0.pt").read_bytes()
    (here / "bad" / "cut.pt").write_bytes(whole[:-300])
    (here / "empty").mkdir()
    (here / "file").write_text("")
    (here / "broken").mkdir()
    (here / "broken" / "index.json").write_text("{")
    return here


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[arguments for arguments, _ in BAD])
def test_bad_requests_are_refused_and_nothing_changes(arguments, message, folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "environ", {key: value for key, value in os.environ.items() if "ACESTEP" not in key})
    before = contents(folder)
    given = arguments.split(" ")
    code = main(given if "model=" in arguments else [*given, "model=tiny"])
    stderr = capsys.readouterr().err
    assert code == 2 and re.match(message, stderr), stderr
    assert len(stderr.splitlines()) <= 4 and "Traceback" not in stderr and contents(folder) == before
