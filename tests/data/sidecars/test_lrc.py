"""Times and headers of LRC lyrics go, everything else stays."""

import pytest

from acetrain.data.sidecars import lrc


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("[00:12.34]Walking down the street", "Walking down the street"),
        ("[00:12]no hundredths\n[00:12.3]one\n[00:12.345]three\n[00:12:34]colon", "no hundredths\none\nthree\ncolon"),
        ("[100:00.00]long after", "long after"),
        ("[00:12.00][01:15.00] we sing it twice", "we sing it twice"),
        ("[00:01.00]<00:01.00> Hello <00:01.50> world", "Hello world"),
        ("[00:01.00]Hel<00:01.25>lo <00:01.50>world<00:02.00>", "Hello world"),
        ("[ar:Someone]\n[ti: A title]\n[al:]\n[by:me]\n[offset:+250]\n[length: 03:21]\n[#:note]\n[00:01.00]la", "la"),
        ("[AR:Someone]\n[00:01.00]la", "la"),
        ("[00:00.00][Verse 1]\n[00:01.00]la\n[Chorus]\n[00:02.00]lo", "[Verse 1]\nla\n[Chorus]\nlo"),
        ("[Verse: whispered]\n[00:01.00]la", "[Verse: whispered]\nla"),
        ("[00:01.00]la\n[00:05.00]\n[00:06.00]\n\n[00:09.00]lo\n[00:12.00]", "la\n\nlo"),
        ("[00:01.00]la la\n(ad lib) [whispered] <so>", "la la\n(ad lib) [whispered] <so>"),
        ("[00:01.00]at 12:30 [sic]", "at 12:30 [sic]"),
        ("", ""),
    ],
)
def test_lines_without_their_times(text: str, plain: str) -> None:
    assert lrc.plain(text) == plain
    assert lrc.plain(plain) == plain


@pytest.mark.parametrize(
    ("text", "timed"),
    [
        ("[Verse]\n[00:01.00]la", True),
        ("  [00:01]la", True),
        ("[Verse]\nla at 00:01.00", False),
        ("[ar:Someone]\nla", False),
        ("la [00:01.00]", False),
    ],
)
def test_lyrics_are_timed_if_a_line_starts_with_a_time(text: str, timed: bool) -> None:
    assert lrc.is_timed(text) is timed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("[00:12.34]a\n[01:02]b\n[00:00:5]c", (12.34, 62.0, 0.5)),
        ("[00:01.00]a\n[Chorus]\n[00:02.00]b", (1.0, None, 2.0)),
        ("[00:12.00][01:15.00]sung twice\n[00:20.00]once", (None, 20.0)),
        ("[00:12.00][01:15.00]sung twice", ()),
        ("[ar:x]\n\n[offset:+500]\n[00:01.00]a\n[00:09.00]\n\n[00:10.00]b", (0.5, 8.5, 9.5)),
        ("[offset:-250]\n[00:01.00]a <00:02.00>b", (1.25,)),
        ("a\nb", ()),
    ],
)
def test_times_are_those_of_the_lines_that_stay(text: str, seconds: tuple[float | None, ...]) -> None:
    assert lrc.times(text) == seconds
    assert not seconds or len(lrc.plain(text).split("\n")) == len(seconds)
