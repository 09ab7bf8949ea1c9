"""What the tutorials advise on songs, each rule with its threshold; advice stops nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acetrain.data.survey import tags
from acetrain.data.survey.collect import Survey, Usable
from acetrain.data.usual import usual_passes
from acetrain.data.wording import TagPosition


@dataclass(frozen=True)
class Advice:
    """What to think about, and the songs it is about; no songs where it is about all of them."""

    rule: str
    what: str
    songs: tuple[str, ...] = ()


@dataclass(frozen=True)
class SongRule:
    """A rule that a song falls under or not."""

    name: str
    threshold: float
    applies: Callable[[Usable, float], bool]
    what: str
    """What such a song is; `{}` is the threshold."""
    why: str


@dataclass(frozen=True)
class SetRule:
    """A rule about all the songs together."""

    name: str
    threshold: float
    advise: Callable[[Survey, float], Advice | None]


def _few_songs(found: Survey, fewest: float) -> Advice | None:
    count = len(found.songs)
    what = f"{count} of the {fewest:g} songs or more that are advised; 20 are better, below 5 a style is hardly learnt"
    return Advice("songs", what) if count < fewest else None


def _few_minutes(found: Survey, fewest: float) -> Advice | None:
    minutes = found.seconds / 60
    what = f"{minutes:.1f} of the {fewest:g} minutes or more that are advised; 30 to 60 are better"
    return Advice("minutes", what) if minutes < fewest else None


def _mixed_rates(found: Survey, most: float) -> Advice | None:
    rates = Counter(song.audio.sample_rate for song in found.songs)
    if len(rates) <= most:
        return None
    usual, _ = rates.most_common(1)[0]
    shown = ", ".join(f"{count} at {rate / 1000:g} kHz" for rate, count in rates.most_common())
    others = tuple(song.name for song in found.songs if song.audio.sample_rate != usual)
    return Advice("mixed_rates", f"the songs have different sample rates ({shown}); all are resampled", others)


def _same_caption(found: Survey, most: float) -> Advice | None:
    captions = Counter(song.prompt.caption for song in found.songs)
    if len(found.songs) < 2:
        return None
    caption, count = captions.most_common(1)[0]
    who = tuple(song.name for song in found.songs if song.prompt.caption == caption)
    what = f"the same caption: {_share(who, found)}; say of each song what sets it apart"
    return Advice("same_caption", what, who) if count > most * len(found.songs) else None


def _unknown(name: str, label: str, field: str) -> Callable[[Survey, float], Advice | None]:
    """Advice where more than a share of the songs lacks a field of the prompt."""

    def advise(found: Survey, most: float) -> Advice | None:
        lacking = tuple(song.name for song in found.songs if not getattr(song.prompt, field))
        advised = "a CSV from Key-BPM-Finder is read; what a language model guesses is often wrong"
        what = f"unknown {label}: {_share(lacking, found)}; {advised}"
        return Advice(name, what, lacking) if len(lacking) > most * len(found.songs) else None

    return advise


def _duplicates(found: Survey, most: float) -> Advice | None:
    counts = Counter(song.audio.sha256 for song in found.songs)
    twice = tuple(song.name for song in found.songs if counts[song.audio.sha256] > most)
    return Advice("duplicates", f"the same audio under several names: {_share(twice, found)}", twice) if twice else None


def _bad_tag(found: Survey, longest: float) -> Advice | None:
    used = sorted({song.song.tag or found.settings.tag for song in found.songs} - {""})
    wrong = {tag: list(tags.complaints(tag, int(longest))) for tag in used}
    said = "; ".join(f"the activation tag {tag!r} {' and '.join(what)}" for tag, what in wrong.items() if what)
    return Advice("tag", f"{said}; good ones are made up, short and lower-case: myjazz24") if said else None


def _tag_missing(found: Survey, share: float) -> Advice | None:
    """Where no tag is put into the captions, and most hold one by themselves."""
    tag = "" if found.settings.tag else tags.implied([song.prompt for song in found.songs], share)
    lacking = tuple(
        song.name for song in found.songs if tag and not song.song.tag and not tags.held(tag, song.prompt.caption)
    )
    what = f"no {tag!r}, the word that the other captions start with: {_share(lacking, found)}"
    return Advice("tag_missing", what, lacking) if lacking else None


def _tag_replaces(found: Survey, most: float) -> Advice | None:
    replaces = found.settings.tag_position is TagPosition.replace
    tagged = tuple(song.name for song in found.songs if song.song.tag or found.settings.tag)
    what = f"a tag alone, in place of the caption: {_share(tagged, found)}; prompts.tag_position=prepend keeps both"
    return Advice("tag_replaces", what, tagged) if replaces and len(tagged) > most else None


def _genres(found: Survey, most: float) -> Advice | None:
    ratio = found.settings.genre_ratio
    what = (
        f"{ratio:g} % of the visits name the genre in the caption's place; a caption says more (prompts.genre_ratio=0)"
    )
    return Advice("genre_ratio", what) if ratio > most else None


def _epochs(found: Survey, fewest: float) -> Advice | None:
    count = len(found.songs)
    least, most = usual_passes(count)
    what = f"{least} to {most} epochs are usual for so many songs (max_epochs); stop where the validation loss rises"
    return Advice("epochs", what) if count >= fewest else None


def _rank(found: Survey, fewest: float) -> Advice | None:
    what = "adapter.rank=32 for a timbre, 64 for a genre, 128 for what is complex; adapter.alpha twice the rank"
    return Advice("rank", what) if len(found.songs) >= fewest else None


def _loudness(song: Usable) -> float:
    """LUFS; the middle of what is advised where a song has none."""
    return -14.0 if song.audio.loudness is None else song.audio.loudness


LOUDNESS = "ACE-Step's own music lies between -16 and -12"

RULES: tuple[SongRule | SetRule, ...] = (
    SetRule("songs", 8, _few_songs),
    SetRule("minutes", 15, _few_minutes),
    SongRule(
        "short",
        60,
        lambda song, least: song.audio.seconds < least,
        "shorter than {} s",
        "2 to 5 minutes are advised",
    ),
    SongRule(
        "long",
        240,
        lambda song, most: song.audio.seconds > most,
        "longer than {} s",
        "the longest song sets how much memory training takes; max_duration=240 crops them",
    ),
    SetRule("mixed_rates", 1, _mixed_rates),
    SongRule(
        "low_rate",
        44100,
        lambda song, least: song.audio.sample_rate < least,
        "sampled below {} Hz",
        "their highs are lost",
    ),
    SongRule("mono", 1, lambda song, _: song.audio.mono, "mono", "the model learns that as well"),
    SongRule(
        "clipped",
        10,
        lambda song, most: song.audio.clipped_peaks > most * song.audio.seconds / 60,
        "clipped more than {} times a minute",
        "the model learns that as well",
    ),
    SongRule(
        "silent", -60, lambda song, least: song.audio.peak < least, "peaks below {} dB", "there is nothing to be heard"
    ),
    SongRule("quiet", -16, lambda song, least: _loudness(song) < least, "below {} LUFS", LOUDNESS),
    SongRule("loud", -12, lambda song, most: _loudness(song) > most, "above {} LUFS", LOUDNESS),
    SongRule(
        "no_sections",
        1,
        lambda song, least: song.sung and song.prompt.lyrics.count("[") < least,
        "lyrics without [Verse], [Chorus] and the like",
        "with them a song's structure is learnt better",
    ),
    SetRule("same_caption", 0.5, _same_caption),
    SetRule("bpm", 0.1, _unknown("bpm", "tempo", "bpm")),
    SetRule("key", 0.1, _unknown("key", "key", "keyscale")),
    SetRule("duplicates", 1, _duplicates),
    SetRule("tag", 16, _bad_tag),
    SetRule("tag_missing", 0.8, _tag_missing),
    SetRule("tag_replaces", 0, _tag_replaces),
    SetRule("genre_ratio", 0, _genres),
    SetRule("epochs", 1, _epochs),
    SetRule("rank", 1, _rank),
)
"""Every rule, in the order in which it is told."""


def advise(found: Survey) -> list[Advice]:
    """What the rules have to say on the songs without a fault."""
    if not found.songs:
        return []
    given = (
        _of_songs(rule, found) if isinstance(rule, SongRule) else rule.advise(found, rule.threshold) for rule in RULES
    )
    return [advice for advice in given if advice]


def flags(song: Usable) -> list[str]:
    """Names of the song rules that a song falls under."""
    return [rule.name for rule in RULES if isinstance(rule, SongRule) and rule.applies(song, rule.threshold)]


def _of_songs(rule: SongRule, found: Survey) -> Advice | None:
    names = tuple(song.name for song in found.songs if rule.applies(song, rule.threshold))
    what = f"{rule.what.format(f'{rule.threshold:g}')}: {_share(names, found)}; {rule.why}"
    return Advice(rule.name, what, names) if names else None


def _share(some: Sequence[str], found: Survey) -> str:
    return f"{len(some)} of {len(found.songs)} songs"
