"""Fields of a prompt: what is taken, and what is refused with its rule and value."""

import math

import pytest

from acetrain.data.prompt import INSTRUMENTAL, NO_CAPTION, Prompt, build


def made(**given: object) -> Prompt:
    prompt, faults = build({"caption": "a song"} | given)
    assert prompt is not None and faults == []
    return prompt


def test_what_is_not_given_stays_unknown() -> None:
    nothing = Prompt("a song", INSTRUMENTAL, None, "", "", "en")
    assert made() == nothing
    assert made(lyrics="  \n", bpm=None, keyscale="", timesignature="N/A", language=None) == nothing


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("caption", "  text \n", "text"),
        ("lyrics", "[verse]\n바다", "[verse]\n바다"),
        ("bpm", 30, 30),
        ("bpm", 300, 300),
        ("bpm", 119.6, 120),
        ("bpm", " 120 ", 120),
        ("bpm", "119,6", 120),
        ("lyrics", "[instrumental]", INSTRUMENTAL),
        ("keyscale", "C major", "C major"),
        ("keyscale", " f#  MINOR ", "F# minor"),
        ("keyscale", "F♯ minor", "F# minor"),
        ("keyscale", "B♭ Major", "Bb major"),
        ("keyscale", "bb minor", "Bb minor"),
        ("keyscale", "b minor", "B minor"),
        ("timesignature", 3, "3"),
        ("timesignature", "6", "6"),
        ("timesignature", "6/8", "6"),
        ("timesignature", "4/4", "4"),
        ("language", "KO", "ko"),
        ("language", "pt-BR", "pt-br"),
        ("language", "unknown", "unknown"),
    ],
)
def test_values_are_taken(field: str, value: object, taken: object) -> None:
    assert getattr(made(**{field: value}), field) == taken


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("caption", 3, "caption: must be text, got 3"),
        ("lyrics", ["la"], "lyrics: must be text, got ['la']"),
        ("bpm", 29, "bpm: must be a number from 30 to 300, got 29"),
        ("bpm", 301, "bpm: must be a number from 30 to 300, got 301"),
        ("bpm", "12", "bpm: must be a number from 30 to 300, got '12'"),
        ("bpm", "fast", "bpm: must be a number from 30 to 300, got 'fast'"),
        ("bpm", True, "bpm: must be a number from 30 to 300, got True"),
        ("bpm", math.nan, "bpm: must be a number from 30 to 300, got nan"),
        ("keyscale", "H major", "keyscale: must be a key like 'C major', 'F# minor' or 'B♭ major', got 'H major'"),
        ("keyscale", "C", "keyscale: must be a key like 'C major', 'F# minor' or 'B♭ major', got 'C'"),
        ("keyscale", 5, "keyscale: must be a key like 'C major', 'F# minor' or 'B♭ major', got 5"),
        ("timesignature", 5, "timesignature: must be one of 2, 3, 4, 6, got 5"),
        ("timesignature", "7/8", "timesignature: must be one of 2, 3, 4, 6, got '7/8'"),
        ("timesignature", True, "timesignature: must be one of 2, 3, 4, 6, got True"),
        ("timesignature", 4.0, "timesignature: must be one of 2, 3, 4, 6, got 4.0"),
        ("language", "english", "language: must be a code like en, ko or unknown, got 'english'"),
    ],
)
def test_values_are_refused(field: str, value: object, message: str) -> None:
    assert build({"caption": "a song"} | {field: value}) == (None, [message])


def test_all_faults_are_named_at_once() -> None:
    prompt, faults = build({"bpm": 10, "timesignature": 5})
    assert prompt is None
    assert [fault.split(":")[0] for fault in faults] == [NO_CAPTION, "bpm", "timesignature"]


def test_every_field_is_in_the_digest() -> None:
    one = made()
    others = [
        made(**{key: value}) for key, value in {"caption": "b", "lyrics": "b", "bpm": 99, "language": "ko"}.items()
    ]
    others += [made(keyscale="C major"), made(timesignature=4)]
    assert len({prompt.digest() for prompt in [one, *others]}) == 7 and made().digest() == one.digest()
