"""Side-Step's key: value text, told from lyrics by its caption line."""

import pytest

from acetrain.data.sidecars import side_step

WHOLE = """caption: warm lo-fi, dusty drums
genre: lo-fi hip hop
bpm: 84
key: F# minor
signature: 4/4
is_instrumental: false
repeat: 3
lyrics:
[Verse 1]
Note: this is sung
bpm: so is this

[Chorus]
la
"""


def test_every_key_is_read_and_lyrics_go_to_the_end() -> None:
    assert side_step.is_side_step(WHOLE)
    assert side_step.fields(WHOLE) == {
        "caption": "warm lo-fi, dusty drums",
        "genre": "lo-fi hip hop",
        "bpm": "84",
        "keyscale": "F# minor",
        "timesignature": "4/4",
        "is_instrumental": "false",
        "repeat": "3",
        "lyrics": "[Verse 1]\nNote: this is sung\nbpm: so is this\n\n[Chorus]\nla",
    }


def test_values_may_go_on_and_keys_may_be_indented_or_in_capitals() -> None:
    text = "  Caption: one\n two\nBPM:90\nmood: happy\nlyrics: first\nsecond"
    assert side_step.fields(text) == {
        "caption": "one\n two",
        "bpm": "90",
        "mood": "happy",
        "lyrics": "first\nsecond",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("caption:\nlyrics:\n", True),
        ("bpm: 90\nCAPTION : x", True),
        ("Walking down the street\nla", False),
        ("[Verse: soft]\nla", False),
        ("lyrics:\ncaption: she said", False),
        ("", False),
    ],
)
def test_it_is_told_by_its_caption_line(text: str, told: bool) -> None:
    assert side_step.is_side_step(text) is told


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ValueError, match="unknown key 'captoin'; nearest: caption"):
        side_step.fields("caption: x\ncaptoin: y")
