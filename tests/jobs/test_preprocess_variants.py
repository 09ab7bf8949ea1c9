"""`acetrain preprocess`: several wordings of a song, what visits draw of them, and that each is as at inference."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from encoded import encode_condition
from preprocessing import preprocess
from prompting import AS_WRITTEN
from tones import write_tone

from acetrain.acestep.model import Tiny
from acetrain.data.cache import Cache
from acetrain.data.index import CachedSong
from acetrain.data.songs import Song
from acetrain.errors import Refused
from acetrain.jobs.preprocess import Preprocess
from acetrain.training.precision import Precision

TAGS = replace(AS_WRITTEN, tag="zz", genre_ratio=50, variants=3, shuffle_tags=True, tag_dropout=0.2)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, fp32: Precision) -> Preprocess:
    """A job over a song with tags and a genre, and one of prose without."""
    folder = tmp_path_factory.mktemp("variants")
    write_tone(folder / "songs" / "a.wav", 3.0)
    write_tone(folder / "songs" / "b.wav", 1.0)
    about = {"caption": "calm, rain, slow piano, felt", "genre": "jazz", "bpm": 90, "lyrics": "[Verse]\nla la\nla"}
    (folder / "songs" / "a.json").write_text(json.dumps(about))
    (folder / "songs" / "b.caption.txt").write_text("A tone that lasts for a second.")
    places = str(folder / "songs"), str(folder / "cache")
    return preprocess(*places, tiny, fp32, prompts=TAGS)


def run(job: Preprocess) -> Cache:
    job.check()
    job.run()
    return Cache.open(job.cache)


@pytest.fixture(scope="module")
def cache(job: Preprocess) -> Cache:
    return run(job)


def worded(job: Preprocess) -> list[Song]:
    return job._scanned().songs


def visits(song: CachedSong, count: int, cropped: bool = False) -> list:
    return [song.drawn(cropped, 0, epoch, song.name, 0) for epoch in range(count)]


def test_every_wording_that_is_drawn_is_what_inference_computes(cache: Cache, job: Preprocess, pipeline) -> None:
    """Law 5, for all that visits may draw."""
    for song, said in zip(cache.songs, worded(job), strict=True):
        script = said.script(None).encodings(song.frames, cache.fingerprint.frame_rate)
        takes = {song.as_written(), *visits(song, 60)}
        assert len(takes) == len(script.texts) == (4 if song.name == "a.wav" else 1)
        for take in takes:
            caption, seconds = script.texts[take.text]
            prompt = replace(said.prompt, caption=caption, lyrics=script.lyrics[take.lyrics])
            latents, condition = cache.read(song, take)
            assert torch.equal(condition, encode_condition(pipeline, prompt, seconds))
            assert torch.equal(latents, cache.read(song)[0])


def test_the_first_is_the_caption_as_written(cache: Cache, job: Preprocess, pipeline) -> None:
    for song, said in zip(cache.songs, worded(job), strict=True):
        assert torch.equal(cache.read(song)[1], encode_condition(pipeline, said.prompt, song.seconds))
        assert len(cache.read(song)[1]) == song.tokens <= song.most_tokens


def test_the_genre_is_drawn_in_its_share_of_the_visits(cache: Cache) -> None:
    song = cache.songs[0]
    assert song.variants and song.variants.whole.genre is not None and song.genre_share == 0.5
    for share in (0.0, 0.25, 1.0):
        drawn = Counter(take.text for take in visits(replace(song, genre_share=share), 2000))
        assert drawn[song.variants.whole.genre] / 2000 == pytest.approx(share, abs=0.03)
        others = [drawn[text] / 2000 for text in song.variants.whole.captions]
        assert others == pytest.approx([(1 - share) / 3] * 3, abs=0.04)


def test_another_ratio_stands_in_the_index_alone(cache: Cache, job: Preprocess) -> None:
    before = {file: file.stat().st_mtime_ns for file in (cache.folder / "songs").iterdir()}
    more = run(replace(job, prompts=replace(TAGS, genre_ratio=80)))
    assert [song.genre_share for song in more.songs] == [0.8, 0.0]
    assert {file: file.stat().st_mtime_ns for file in (cache.folder / "songs").iterdir()} == before
    assert more.digest() != cache.digest() == run(job).digest()


def test_a_song_in_one_wording_is_stored_as_ever(cache: Cache) -> None:
    """Nothing in the row or the file of a song tells a cache of format 2 from one of format 3."""
    plain = cache.songs[1]
    old = {"name", "file", "frames", "tokens", "seconds", "audio", "text", "crop", "repeat"}
    assert plain.variants is None and set(plain.stated()) == old
    assert plain.drawn(False, 0, 3, plain.name, 0) == plain.as_written()
    index = json.loads((cache.folder / "index.json").read_text())
    rows = [row for row in index["songs"] if row["name"] == plain.name]
    (cache.folder / "index.json").write_text(json.dumps(index | {"format": 2, "songs": rows}))
    try:
        assert Cache.open(cache.folder).songs == (plain,)
    finally:
        (cache.folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "9"}, "head is '9'"),
        ({"texts": [1, "2"]}, r"texts is \[1, '2'\]"),
        ({"whole": None}, "Wordings is None"),
        ({"windows": []}, "Windows is "),
        ({"more": 1}, "fields more do not match"),
    ],
)
def test_an_index_whose_variants_are_not_right_is_refused(cache: Cache, change: dict, message: str) -> None:
    file = cache.folder / "index.json"
    text = file.read_text()
    index = json.loads(text)
    index["songs"][0]["variants"] |= change
    file.write_text(json.dumps(index))
    try:
        with pytest.raises(Refused, match=message):
            Cache.open(cache.folder)
    finally:
        file.write_text(text)
