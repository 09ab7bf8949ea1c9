"""`acetrain preprocess`: crops, repeats, wording and warnings; and no song is decoded twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoded import encode_condition
from fabricate import FRAME_RATE, RATE
from preprocessing import preprocess
from prompting import AS_WRITTEN
from tones import write_tone

from acetrain.acestep.model import Tiny
from acetrain.data import audio, prompt
from acetrain.data.cache import Cache
from acetrain.data.songs import scan
from acetrain.data.wording import TagPosition
from acetrain.errors import Refused
from acetrain.jobs.preprocess import Preprocess
from acetrain.training.precision import Precision

pytestmark = pytest.mark.slow


@pytest.fixture
def tones(tmp_path: Path, tiny: Tiny, fp32: Precision) -> Preprocess:
    """A job over three tones: a.wav and b.wav of a second, c.wav of three."""
    for name, seconds in {"a.wav": 1.0, "b.wav": 1.0, "c.wav": 3.0}.items():
        write_tone(tmp_path / "songs" / name, seconds)
    places = str(tmp_path / "songs"), str(tmp_path / "cache")
    return preprocess(*places, tiny, fp32)


def run(job: Preprocess) -> Cache:
    job.check()
    job.run()
    return Cache.open(job.cache)


def stamps(cache: str | Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (Path(cache) / "songs").iterdir()}


def decoded(monkeypatch) -> list[str]:
    """Names of the files that are decoded from now on."""
    names = []
    original = audio.opened
    monkeypatch.setattr(audio, "opened", lambda file: names.append(file.name) or original(file))
    return names


def test_a_crop_is_what_is_encoded_and_what_the_prompt_states(tones: Preprocess, pipeline) -> None:
    cropped = run(replace(tones, max_duration=2.0))
    songs = {song.name: song for song in cropped.songs}
    assert (songs["c.wav"].frames, songs["c.wav"].crop) == (2 * FRAME_RATE, 2.0)
    assert (songs["a.wav"].frames, songs["a.wav"].crop) == (FRAME_RATE, 0.0)
    prompt = scan(Path(tones.songs)).songs[2].prompt
    assert torch.equal(cropped.read(songs["c.wav"])[1], encode_condition(pipeline, prompt, 2.0))
    samples = torch.from_numpy(audio.read(Path(tones.songs) / "c.wav", RATE))[None, :, : 2 * RATE]
    with torch.no_grad():
        posterior = pipeline.vae.encode(samples).latent_dist
    drawn = ((cropped.read(songs["c.wav"])[0] - posterior.mean[0].T) / posterior.std[0].T)[:-10]
    assert drawn.abs().max() < 6 and 0.8 < drawn.std() < 1.2


def test_another_crop_encodes_again_what_it_changes(tones: Preprocess) -> None:
    whole = run(tones)
    before = stamps(tones.cache)
    cropped = run(replace(tones, max_duration=2.0))
    changed = [name for name, stamp in stamps(tones.cache).items() if before[name] != stamp]
    assert changed == [Path(cropped.songs[2].file).name] and cropped.digest() != whole.digest()
    again = stamps(tones.cache)
    run(replace(tones, max_duration=2.0))
    assert stamps(tones.cache) == again
    assert run(tones).digest() == whole.digest()


def test_a_song_too_long_for_the_model_is_used_up_to_its_crop(tones: Preprocess) -> None:
    soundfile.write(Path(tones.songs) / "c.wav", np.random.default_rng(0).normal(0, 0.1, 601 * 1000), 1000)
    with pytest.raises(Refused, match=r"1 in .* cannot be used"):
        run(tones)
    assert run(replace(tones, max_duration=2.5)).songs[2].seconds == 2.5


def test_what_is_stored_is_not_decoded_again(tones: Preprocess, monkeypatch) -> None:
    run(tones)
    names = decoded(monkeypatch)
    run(tones)
    assert names == []
    run(replace(tones, max_duration=2.0))
    assert names == ["c.wav"]
    run(replace(tones, max_duration=1.5))
    assert names == ["c.wav"] * 2
    run(tones)
    assert names == ["c.wav"] * 4, "beyond a crop it is looked at again, and encoded"
    write_tone(Path(tones.songs) / "a.wav", 1.4)
    (Path(tones.songs) / "b.caption.txt").write_text("another caption")
    del names[:]
    run(tones)
    assert names == ["a.wav", "a.wav"], "a changed file is checked and encoded, a changed text takes no audio"


def test_repeats_stand_in_the_index_alone(tones: Preprocess) -> None:
    once = run(tones)
    before = stamps(tones.cache)
    (Path(tones.songs) / "b.json").write_text('{"repeat": 3}')
    thrice = run(tones)
    assert [song.repeat for song in thrice.songs] == [1, 3, 1]
    assert stamps(tones.cache) == before and thrice.digest() != once.digest()
    (Path(tones.songs) / "b.json").unlink()
    assert run(tones).digest() == once.digest()


def test_repeats_of_new_songs_are_kept(tones: Preprocess) -> None:
    (Path(tones.songs) / "b.json").write_text('{"repeat": 3}')
    assert [song.repeat for song in run(tones).songs] == [1, 3, 1]


def test_what_is_encoded_is_the_prompt_as_worded(tones: Preprocess, pipeline) -> None:
    plain = run(tones)
    (Path(tones.songs) / "a.json").write_text('{"bpm": 90, "genre": "jazz", "prompt_override": "genre"}')
    prompts = replace(AS_WRITTEN, tag="zz", tag_position=TagPosition.append, skip_metas=True)
    worded = run(replace(tones, prompts=prompts, cache=f"{tones.cache}-worded"))
    expected = [prompt.Prompt("jazz, zz", "[Instrumental]", None, "", "", "en")]
    expected += [prompt.Prompt(f"a tone called {name}, zz", "[Instrumental]", None, "", "", "en") for name in "bc"]
    for song, text, before in zip(worded.songs, expected, plain.songs, strict=True):
        assert song.text == text.digest() != before.text
        assert torch.equal(worded.read(song)[1], encode_condition(pipeline, text, song.seconds))
        assert torch.equal(worded.read(song)[0], plain.read(before)[0])


def test_a_tag_in_place_of_captions_needs_none(tones: Preprocess) -> None:
    (Path(tones.songs) / "a.caption.txt").unlink()
    with pytest.raises(Refused, match=r"1 in .* cannot be used"):
        run(tones)
    with pytest.raises(Refused, match=r"1 in .* cannot be used"):
        run(replace(tones, prompts=replace(AS_WRITTEN, tag_position=TagPosition.replace)))
    assert len(run(replace(tones, prompts=replace(AS_WRITTEN, tag="zz", tag_position=TagPosition.replace))).songs) == 3


def test_warnings_are_told_and_stop_nothing(tones: Preprocess, capsys) -> None:
    (Path(tones.songs) / "b.json").write_text('{"caption": "another"}')
    (Path(tones.songs) / "keys.csv").write_text("File,BPM\na.wav,90\nb.wav,91\nb.wav,92\nx.wav,93\n")
    assert len(run(tones).songs) == 3
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")] == [
        "warning:  b.wav: caption: b.json and b.caption.txt differ; b.json's is taken; "
        "2 rows for it that differ (keys.csv line 3, keys.csv line 4): none is taken",
        "warning:  c.wav: keys.csv: no row for it",
        "warning:  keys.csv: names 'x.wav', not in this folder",
    ]


def test_songs_are_brought_to_one_loudness_and_it_is_said_where_not(tones: Preprocess, tmp_path: Path, capsys) -> None:
    def level(cache: Cache, position: int) -> float:
        return float(cache.read(cache.songs[position])[0].square().mean())

    rng = np.random.default_rng(0)
    for name, factor in (("a.wav", 0.2), ("b.wav", 0.02)):
        soundfile.write(Path(tones.songs) / name, factor * rng.standard_normal((16000, 2)), 16000, subtype="FLOAT")
    spiked = 0.01 * rng.standard_normal((48000, 2))
    spiked[100] = 0.9
    soundfile.write(Path(tones.songs) / "c.wav", spiked, 16000, subtype="FLOAT")
    plain = run(tones)
    told = capsys.readouterr().err
    leveled = run(replace(tones, cache=str(tmp_path / "leveled"), loudness=-20.0))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning, loudness:")]
    assert len(said) == 1 and "c.wav: comes to" in said[0] and "loudness" not in told
    assert (plain.fingerprint.loudness, leveled.fingerprint.loudness) == (None, -20.0)
    assert plain.digest() != leveled.digest()
    assert abs(level(leveled, 0) / level(leveled, 1) - 1) < 0.5 * abs(level(plain, 0) / level(plain, 1) - 1)
    with pytest.raises(Refused, match=r"has loudness None, asked for is -20.0"):
        run(replace(tones, loudness=-20.0))
    with pytest.raises(Refused, match=r"has loudness -20.0, asked for is None"):
        run(replace(tones, cache=str(tmp_path / "leveled")))
