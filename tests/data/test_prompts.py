"""How songs are worded: tags, genres, lyrics, metadata, and who has the last word."""

from dataclasses import replace
from pathlib import Path

import pytest
from prompting import AS_WRITTEN

from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.data.prompts import Prompts
from acetrain.data.songs import Scan, Song
from acetrain.data.wording import Override, Settings, TagPosition, tagged
from acetrain.errors import Refused

SONG = Song("a.wav", Path("a.wav"), Prompt("slow piano", "la", 90, "C major", "4", "en"), genre="jazz")


def worded(prompts: Prompts, song: Song = SONG, settings: Settings | None = None) -> Song:
    found = prompts.apply(Scan([song], settings=settings or Settings()), seed=0)
    assert not found.faults
    return found.songs[0]


@pytest.mark.parametrize(
    ("caption", "position", "result"),
    [
        ("slow piano", TagPosition.prepend, "zz, slow piano"),
        ("slow piano", TagPosition.append, "slow piano, zz"),
        ("slow piano", TagPosition.replace, "zz"),
        ("zz, slow piano", TagPosition.prepend, "zz, slow piano"),
        ("ZZ", TagPosition.prepend, "ZZ"),
        ("zz slow piano", TagPosition.prepend, "zz, zz slow piano"),
        ("slow piano, zz", TagPosition.append, "slow piano, zz"),
        ("zz, slow piano", TagPosition.append, "zz, slow piano, zz"),
        ("", TagPosition.prepend, "zz"),
    ],
)
def test_where_the_tag_goes(caption: str, position: TagPosition, result: str) -> None:
    assert tagged(caption, "zz", position) == result
    assert tagged(result, "zz", position) == result
    assert tagged(caption, "", position) == caption


@pytest.mark.parametrize("position", TagPosition)
def test_a_tag_of_several_words_is_put_once(position: TagPosition) -> None:
    once = tagged("slow piano", "zz (live), 9.5", position)
    assert tagged(once, "ZZ (live), 9.5", position) == once or position is TagPosition.replace
    assert tagged("zzz, slow", "zz", TagPosition.prepend) == "zz, zzz, slow"
    assert tagged("slow, zzz", "zz", TagPosition.append) == "slow, zzz, zz"


def test_as_written_changes_nothing() -> None:
    assert worded(AS_WRITTEN) == SONG


def test_the_config_counts_over_the_file_and_the_song_over_its_data_set() -> None:
    settings = Settings("d", "ofset", TagPosition.append, 0, False)
    own = replace(SONG, tag="ofsong")
    assert worded(AS_WRITTEN, SONG, settings).prompt.caption == "slow piano, ofset"
    assert worded(AS_WRITTEN, own, settings).prompt.caption == "slow piano, ofsong"
    assert worded(replace(AS_WRITTEN, tag="mine"), own, settings).prompt.caption == "slow piano, mine"
    first = replace(AS_WRITTEN, tag_position=TagPosition.prepend)
    assert worded(first, own, settings).prompt.caption == "ofsong, slow piano"
    every = replace(settings, genre_ratio=100, all_instrumental=True)
    assert worded(AS_WRITTEN, SONG, every).prompt.lyrics == INSTRUMENTAL
    assert worded(AS_WRITTEN, SONG, every).prompt.caption == "jazz, ofset"
    against = replace(AS_WRITTEN, genre_ratio=0, all_instrumental=False)
    assert worded(against, SONG, every).prompt.caption == "slow piano, ofset"
    assert worded(against, SONG, every).prompt.lyrics == "la"


def test_metadata_are_withheld() -> None:
    prompt = worded(replace(AS_WRITTEN, skip_metas=True)).prompt
    assert prompt == Prompt("slow piano", "la", None, "", "", "en")


@pytest.mark.parametrize(
    ("override", "ratio", "caption"),
    [(Override.genre, 0, "jazz"), (Override.caption, 100, "slow piano"), (None, 100, "jazz"), (None, 0, "slow piano")],
)
def test_an_override_counts_over_the_ratio(override: Override | None, ratio: float, caption: str) -> None:
    song = replace(SONG, override=override)
    assert worded(replace(AS_WRITTEN, genre_ratio=ratio), song).prompt.caption == caption


def test_the_tag_goes_on_genres_too_and_may_take_their_place() -> None:
    assert worded(replace(AS_WRITTEN, tag="zz", genre_ratio=100)).prompt.caption == "zz, jazz"
    alone = replace(AS_WRITTEN, tag="zz", tag_position=TagPosition.replace, genre_ratio=100)
    assert worded(alone).prompt.caption == "zz"


def test_between_none_and_all_of_the_visits_caption_and_genre_are_both_there() -> None:
    song = worded(replace(AS_WRITTEN, tag="zz", genre_ratio=30))
    assert (song.prompt.caption, song.genre_caption, song.genre_share) == ("zz, slow piano", "zz, jazz", 0.3)
    for prompts in (replace(AS_WRITTEN, genre_ratio=100), replace(AS_WRITTEN, genre_ratio=0)):
        assert (worded(prompts).genre_caption, worded(prompts).genre_share) == ("", 0)
    chosen = worded(replace(AS_WRITTEN, genre_ratio=30), replace(SONG, override=Override.caption))
    assert (chosen.prompt.caption, chosen.genre_caption) == ("slow piano", "")


TAGS = replace(SONG, prompt=replace(SONG.prompt, caption="slow piano, calm, rain, 90s, felt"))
SHUFFLED = replace(AS_WRITTEN, tag="zz", variants=40, shuffle_tags=True)


def words(caption: str) -> list[str]:
    return caption.split(", ")


@pytest.mark.parametrize("position", [TagPosition.prepend, TagPosition.append])
def test_tags_are_shuffled_about_the_activation_tag(position: TagPosition) -> None:
    song = worded(replace(SHUFFLED, tag_position=position), TAGS)
    place, rest = (0, slice(1, None)) if position is TagPosition.prepend else (-1, slice(-1))
    assert song.prompt.caption == tagged(TAGS.prompt.caption, "zz", position) and len(song.captions) == 39
    for caption in song.captions:
        assert words(caption)[place] == "zz"
        assert sorted(words(caption)[rest]) == sorted(words(TAGS.prompt.caption))
    assert len(set(song.captions)) > 30


def test_tags_are_left_out_as_often_as_asked_and_never_all() -> None:
    dropped = replace(AS_WRITTEN, variants=2001, tag_dropout=0.4)
    captions = worded(dropped, TAGS).captions
    tags = words(TAGS.prompt.caption)
    for tag in tags:
        assert sum(tag in words(caption) for caption in captions) / 2000 == pytest.approx(0.6, abs=0.04)
    assert all(words(caption) == [tag for tag in tags if tag in words(caption)] for caption in captions)
    assert all(words(caption)[0] for caption in worded(replace(dropped, tag_dropout=0.999), TAGS).captions)


def test_wordings_belong_to_seed_song_and_number() -> None:
    few = worded(replace(SHUFFLED, variants=5), TAGS).captions
    assert few == worded(SHUFFLED, TAGS).captions[:4]
    assert few != worded(replace(SHUFFLED, variants=5), replace(TAGS, name="b.wav")).captions
    assert few != SHUFFLED.apply(Scan([TAGS]), seed=1).songs[0].captions[:4]


def test_a_tag_that_a_caption_has_by_itself_is_not_shuffled() -> None:
    own = replace(TAGS, prompt=replace(TAGS.prompt, caption="ZZ, calm, rain"))
    assert {words(caption)[0] for caption in worded(SHUFFLED, own).captions} == {"zz"}
    assert all(len(words(caption)) == 3 for caption in worded(SHUFFLED, own).captions)


@pytest.mark.parametrize(
    "caption",
    ["slow piano", "Slow piano, with rain. It is calm", "calm, a piano that plays slowly in the rain", "calm, rain!"],
)
def test_prose_is_worded_in_one_way_and_it_is_said(caption: str) -> None:
    found = SHUFFLED.apply(Scan([replace(SONG, prompt=replace(SONG.prompt, caption=caption))]), seed=0)
    assert found.songs[0].captions == ()
    assert [one.what for one in found.warnings] == ["its caption is prose or a single tag: it is worded in one way"]


def test_a_song_without_a_genre_keeps_its_caption_and_it_is_said() -> None:
    found = replace(AS_WRITTEN, genre_ratio=100).apply(Scan([replace(SONG, genre="")]), seed=0)
    assert found.songs[0].prompt.caption == "slow piano"
    assert [one.what for one in found.warnings] == ["has no genre to take its caption's place in 100 % of its visits"]


@pytest.mark.parametrize(
    ("song", "what"),
    [
        (replace(SONG, genre="", override=Override.genre), "prompt_override is genre, and it has none"),
        (replace(SONG, prompt=replace(SONG.prompt, caption="")), "no caption"),
    ],
)
def test_what_cannot_be_worded_is_a_fault(song: Song, what: str) -> None:
    given = Scan([song, replace(SONG, name="b.wav")])
    found = replace(AS_WRITTEN, tag="zz").apply(given, seed=0)
    assert [(one.file, one.what) for one in found.faults] == [("a.wav", what)]
    assert [one.name for one in found.songs] == ["b.wav"] and found.unfit == [("a.wav", Path("a.wav"))]
    assert not given.faults and len(given.songs) == 2


def test_wording_twice_is_wording_once() -> None:
    more = {"variants": 3, "shuffle_tags": True, "genre_ratio": 50, "all_instrumental": True, "skip_metas": True}
    prompts = replace(AS_WRITTEN, tag="zz", tag_position=TagPosition.append, **more)
    captions = {
        index: replace(SONG.prompt, caption=f"calm, rain, {index} birds" if index % 2 else "rain")
        for index in range(20)
    }
    songs = [replace(SONG, name=f"{index}.wav", prompt=prompt) for index, prompt in captions.items()]
    found = Scan(songs, settings=Settings("d", "tt"))
    once = prompts.apply(found, seed=0)
    assert prompts.apply(once, seed=0).songs == once.songs != prompts.apply(found, seed=1).songs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tag": " zz"}, "prompts.tag: must be a word or a few, got ' zz'"),
        ({"tag": "a\nb"}, "prompts.tag: must be a word or a few"),
        ({"genre_ratio": 101}, "prompts.genre_ratio: must be from 0 to 100, or null, got 101"),
        ({"genre_ratio": -1}, "prompts.genre_ratio: must be from 0 to 100, or null, got -1"),
        ({"variants": 0}, "prompts.variants: must be at least 1, got 0"),
        ({"variants": 1, "shuffle_tags": True}, "prompts.variants: must be at least 2 for tags to be shuffled or left"),
        ({"variants": 1, "tag_dropout": 0.1}, "prompts.variants: must be at least 2 for tags to be shuffled or left"),
        ({"variants": 3}, "prompts.variants: must be 1 where tags are neither shuffled nor left out, got 3"),
        ({"tag_dropout": 1.0, "variants": 2}, r"prompts.tag_dropout: must be in \[0, 1\), got 1.0"),
        ({"tag_dropout": -0.1, "variants": 2}, r"prompts.tag_dropout: must be in \[0, 1\), got -0.1"),
    ],
)
def test_values_that_break_their_rule_are_refused(change: dict, message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(AS_WRITTEN, **change)
