"""How songs are worded: tags, genres, lyrics, metadata, and who has the last word."""

from dataclasses import replace
from pathlib import Path

import pytest

from acetrain.data.prompt import INSTRUMENTAL, Prompt
from acetrain.data.prompts import Prompts
from acetrain.data.songs import Scan, Song
from acetrain.data.wording import Override, Settings, TagPosition, drawn_for_genre, tagged
from acetrain.errors import Refused

AS_WRITTEN = Prompts("", None, None, None, False)
SONG = Song("a.wav", Path("a.wav"), Prompt("slow piano", "la", 90, "C major", "4", "en"), genre="jazz")


def worded(prompts: Prompts, song: Song = SONG, settings: Settings | None = None) -> Song:
    found = prompts.apply(Scan([song], settings=settings or Settings()))
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


def test_genres_are_drawn_by_name_and_a_higher_ratio_keeps_them() -> None:
    names = [f"{index}.wav" for index in range(2000)]
    some = {name for name in names if drawn_for_genre(name, 30)}
    more = {name for name in names if drawn_for_genre(name, 60)}
    assert 540 < len(some) < 660 and 1130 < len(more) < 1270 and some < more
    assert not any(drawn_for_genre(name, 0) for name in names) and all(drawn_for_genre(name, 100) for name in names)


def test_a_song_without_a_genre_keeps_its_caption_and_it_is_said() -> None:
    found = replace(AS_WRITTEN, genre_ratio=100).apply(Scan([replace(SONG, genre="")]))
    assert found.songs[0].prompt.caption == "slow piano"
    assert [one.what for one in found.warnings] == [
        "is drawn to be described by its genre and has none; its caption is taken"
    ]


@pytest.mark.parametrize(
    ("song", "what"),
    [
        (replace(SONG, genre="", override=Override.genre), "prompt_override is genre, and it has none"),
        (replace(SONG, prompt=replace(SONG.prompt, caption="")), "no caption"),
    ],
)
def test_what_cannot_be_worded_is_a_fault(song: Song, what: str) -> None:
    given = Scan([song, replace(SONG, name="b.wav")])
    found = replace(AS_WRITTEN, tag="zz").apply(given)
    assert [(one.file, one.what) for one in found.faults] == [("a.wav", what)]
    assert [one.name for one in found.songs] == ["b.wav"] and found.unfit == [("a.wav", Path("a.wav"))]
    assert not given.faults and len(given.songs) == 2


def test_wording_twice_is_wording_once() -> None:
    prompts = Prompts("zz", TagPosition.append, 50, True, True)
    found = Scan([replace(SONG, name=f"{index}.wav") for index in range(20)], settings=Settings("d", "tt"))
    assert prompts.apply(prompts.apply(found)).songs == prompts.apply(found).songs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tag": " zz"}, "prompts.tag: must be a word or a few, got ' zz'"),
        ({"tag": "a\nb"}, "prompts.tag: must be a word or a few"),
        ({"genre_ratio": 101}, "prompts.genre_ratio: must be from 0 to 100, or null, got 101"),
        ({"genre_ratio": -1}, "prompts.genre_ratio: must be from 0 to 100, or null, got -1"),
    ],
)
def test_values_that_break_their_rule_are_refused(change: dict, message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(AS_WRITTEN, **change)
