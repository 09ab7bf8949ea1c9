"""Every rule of the tutorials speaks on one side of its threshold and is silent on the other."""

from dataclasses import replace

import pytest
from surveys import GOOD_PROMPT, audio, prompt, row, song, survey

from acetrain.data.survey import tags
from acetrain.data.survey.collect import Row, Survey
from acetrain.data.survey.rules import RULES, SongRule, advise, flags
from acetrain.data.wording import Settings, TagPosition

ALWAYS = {"epochs", "rank"}
SAME = prompt(caption="myjazz24, the same")


def tagged(tag: str, position: TagPosition = TagPosition.prepend) -> Survey:
    """Ten good songs whose captions get a tag."""
    return survey(settings=Settings(tag=tag, tag_position=position))


BOTH_WAYS = {
    "songs": (survey(7), survey(8)),
    "minutes": (survey(10, audio(seconds=89.0), 10), survey(10, audio(seconds=91.0), 10)),
    "short": (survey(change=audio(seconds=59.9)), survey(change=audio(seconds=60.0))),
    "long": (survey(change=audio(seconds=240.1)), survey(change=audio(seconds=240.0))),
    "mixed_rates": (survey(change=audio(sample_rate=44100)), survey(change=audio(sample_rate=44100), changed=10)),
    "low_rate": (survey(10, audio(sample_rate=44099), 10), survey(10, audio(sample_rate=44100), 10)),
    "mono": (survey(change=audio(mono=True)), survey()),
    "clipped": (survey(change=audio(clipped_peaks=31)), survey(change=audio(clipped_peaks=30))),
    "silent": (survey(change=audio(peak=-60.1)), survey(change=audio(peak=-60.0))),
    "quiet": (survey(change=audio(loudness=-16.1)), survey(change=audio(loudness=-16.0))),
    "loud": (survey(change=audio(loudness=-11.9)), survey(change=audio(loudness=-12.0))),
    "no_sections": (survey(change=prompt(lyrics="la la")), survey(change=prompt(lyrics="[instrumental]"))),
    "same_caption": (survey(10, SAME, 6), survey(10, SAME, 5)),
    "bpm": (survey(10, prompt(bpm=None), 2), survey(10, prompt(bpm=None), 1)),
    "key": (survey(10, prompt(keyscale=""), 2), survey(10, prompt(keyscale=""), 1)),
    "duplicates": (survey(change=audio(sha256="3")), survey(change=audio(sha256="new"))),
    "tag": (tagged("jazz"), tagged("myjazz24")),
    "tag_missing": (survey(change=prompt(caption="other, words")), survey(change=prompt(caption="more MyJazz24"))),
    "tag_replaces": (tagged("myjazz24", TagPosition.replace), tagged("", TagPosition.replace)),
    "genre_ratio": (survey(settings=Settings(genre_ratio=1)), survey(settings=Settings(genre_ratio=0))),
    "epochs": (survey(), Survey([])),
    "rank": (survey(), Survey([])),
}


def told(found: Survey) -> dict[str, str]:
    return {advice.rule: advice.what for advice in advise(found)}


def test_every_rule_is_tried_and_has_a_name_of_its_own():
    assert [rule.name for rule in RULES] == list(BOTH_WAYS)


def test_good_songs_are_left_alone():
    assert set(told(survey())) == ALWAYS


@pytest.mark.parametrize("rule", BOTH_WAYS)
def test_a_rule_speaks_on_one_side_of_its_threshold_only(rule):
    breaking, keeping = BOTH_WAYS[rule]
    assert rule in told(breaking)
    assert rule not in told(keeping)


def test_advice_names_the_songs_it_is_about():
    found = survey(10, audio(seconds=10.0, loudness=-30.0), 3)
    short = next(advice for advice in advise(found) if advice.rule == "short")
    assert short.songs == ("00.wav", "01.wav", "02.wav")
    assert short.what == "shorter than 60 s: 3 of 10 songs; 2 to 5 minutes are advised"
    assert [flags(song) for song in found.songs[2:4]] == [["short", "quiet"], []]


def test_only_songs_without_a_fault_count():
    faulty = Row("x.wav", row(11).song, None, ("cannot be decoded",))
    assert "songs" in told(Survey([*survey(7).rows, faulty]))


@pytest.mark.parametrize(
    ("count", "epochs"),
    [
        (1, "800 to 1000"),
        (4, "800 to 1000"),
        (5, "500 to 800"),
        (19, "500 to 800"),
        (20, "300 to 500"),
        (100, "300 to 500"),
    ],
)
def test_epochs_follow_the_number_of_songs(count, epochs):
    assert told(survey(count))["epochs"].startswith(epochs)


def test_a_song_without_loudness_is_neither_quiet_nor_loud():
    assert flags(survey(change=audio(loudness=None)).songs[0]) == []


def test_song_rules_say_their_threshold():
    for rule in RULES:
        if isinstance(rule, SongRule) and rule.threshold != 1:
            assert "{}" in rule.what, rule.name


@pytest.mark.parametrize(
    ("tag", "complaint"),
    [
        ("jazz", "the model knows already"),
        ("The", "the model knows already"),
        ("none", "the model knows already"),
        ("xq", "fewer than 3"),
        ("my-custom-jazz-style-2024", "more than 16"),
        ("my jazz", "has blanks"),
        ("my_jazz!", "other than letters and digits"),
        ("MyJazz", "capital letters"),
    ],
)
def test_bad_tags(tag, complaint):
    assert any(complaint in said for said in tags.complaints(tag, 16))


@pytest.mark.parametrize("tag", ["myjazz", "xmas24", "나유타", "lofi7k", "a" * 16])
def test_good_tags(tag):
    assert list(tags.complaints(tag, 16)) == []


@pytest.mark.parametrize(
    ("first", "holding", "tag"),
    [("myjazz", 8, "myjazz"), ("myjazz", 7, ""), ("jazz", 10, ""), ("slow jazz", 10, ""), ("MyJazz", 10, "myjazz")],
)
def test_a_tag_is_implied_by_what_most_captions_start_with(first, holding, tag):
    captions = [f"{first}, number {index}" if index < holding else f"{index}, other" for index in range(10)]
    assert tags.implied([replace(GOOD_PROMPT, caption=caption) for caption in captions], 0.8) == tag


def test_a_tag_that_is_put_into_captions_is_not_missed_in_them():
    bare = prompt(caption="other, words")
    assert "tag_missing" not in told(survey(change=bare, settings=Settings(tag="new24")))
    assert "tag_missing" not in told(survey(change=lambda one: song(tag="new24")(bare(one))))


def test_the_tags_of_single_songs_are_looked_at():
    assert "'Jazz!'" in told(survey(change=song(tag="Jazz!"), settings=Settings(tag="myjazz24")))["tag"]


def test_a_tag_within_another_word_is_not_held():
    assert not tags.held("jaz", "jazz and more")
    assert tags.held("jaz", "slow, jaz.")
