"""How songs are worded for training: activation tag, genres, lyrics and metadata."""

from dataclasses import dataclass, replace

from acetrain.data.faults import Fault
from acetrain.data.prompt import INSTRUMENTAL, NO_CAPTION
from acetrain.data.shuffling import wordings
from acetrain.data.songs import Scan, Song
from acetrain.data.wording import Override, Settings, TagPosition, tagged
from acetrain.errors import Refused, require


@dataclass
class Prompts:
    """What training changes in the prompts that files give; what is set here counts over a dataset.json."""

    tag: str
    """Activation tag put into every caption; empty leaves it to the dataset.json, which may have one for each song."""
    tag_position: TagPosition | None
    """Whether the tag comes before the caption, after it, or in its place; null: as the dataset.json says, else
    before."""
    genre_ratio: float | None
    """Percentage of a song's visits, from 0 to 100, in which its genre takes the caption's place, drawn anew each time.
    null: as the dataset.json says, else 0."""
    all_instrumental: bool | None
    """Whether lyrics are left out of all songs; null: as the dataset.json says, else false."""
    skip_metas: bool
    """Whether tempo, key and meter are withheld: the model is told N/A. The duration is always told."""
    variants: int
    """Wordings of a caption that are encoded, at least 1; visits draw from them. The first is the caption as written,
    the only one for captions that are prose, not tags set off by commas. Validation hears the first."""
    shuffle_tags: bool
    """Whether the other wordings have their tags in random order (`shuffle_caption` of kohya's sd-scripts). The
    activation tag keeps its place."""
    tag_dropout: float
    """Probability that a tag is left out of such a wording, in [0, 1) (`caption_tag_dropout_rate` there); never the
    activation tag, and never all."""

    def __post_init__(self) -> None:
        require(self.tag == self.tag.strip() and "\n" not in self.tag, "prompts.tag", "a word or a few", self.tag)
        ratio = self.genre_ratio
        require(ratio is None or 0 <= ratio <= 100, "prompts.genre_ratio", "from 0 to 100, or null", ratio)
        require(0 <= self.tag_dropout < 1, "prompts.tag_dropout", "in [0, 1)", self.tag_dropout)
        least = 2 if self.shuffle_tags or self.tag_dropout else 1
        why = "at least 2 for tags to be shuffled or left out" if least == 2 else "at least 1"
        require(self.variants >= least, "prompts.variants", why, self.variants)
        alike = self.variants > 1 and least == 1
        require(not alike, "prompts.variants", "1 where tags are neither shuffled nor left out", self.variants)

    def needs_captions(self) -> bool:
        """Whether a song without a caption cannot be used: no tag is to take its place."""
        return self.tag_position is not TagPosition.replace

    def settings(self, given: Settings) -> Settings:
        """The settings that count: those set here, else those of the dataset.json."""
        return Settings(
            given.name,
            self.tag or given.tag,
            given.tag_position if self.tag_position is None else self.tag_position,
            given.genre_ratio if self.genre_ratio is None else self.genre_ratio,
            given.all_instrumental if self.all_instrumental is None else self.all_instrumental,
        )

    def apply(self, found: Scan, seed: int) -> Scan:
        """The scan with every song's prompts as they are trained; songs that cannot be worded become faults.

        `seed` is what tags are shuffled and left out by, with the song's name and the wording's number.
        """
        settings = self.settings(found.settings)
        worded = Scan([], list(found.faults), list(found.unfit), list(found.warnings), Settings(settings.name))
        for song in found.songs:
            try:
                worded.songs.append(self._word(song, settings, seed, worded.warnings))
            except Refused as refusal:
                worded.faults.append(Fault(song.name, str(refusal)))
                worded.unfit.append((song.name, song.audio))
        return worded

    def _word(self, song: Song, settings: Settings, seed: int, warnings: list[Fault]) -> Song:
        tag, position = self.tag or song.tag or settings.tag, settings.tag_position
        replaced = bool(tag) and position is TagPosition.replace
        text = "" if replaced else _description(song, settings.genre_ratio)
        prompt = replace(song.prompt, caption=tagged(text, tag, position))
        if settings.all_instrumental:
            prompt = replace(prompt, lyrics=INSTRUMENTAL)
        if self.skip_metas:
            prompt = replace(prompt, bpm=None, keyscale="", timesignature="")
        shuffled = self.shuffle_tags, self.tag_dropout, seed, "tags", song.name
        captions = wordings(text, tag, position, self.variants - 1, *shuffled)
        if self.variants > 1 and text and not captions:
            warnings.append(Fault(song.name, "its caption is prose or a single tag: it is worded in one way"))
        worded = replace(song, prompt=prompt, tag="", override=None, captions=captions)
        return worded if replaced else _with_genre(worded, song.override, settings.genre_ratio, tag, position, warnings)


def _description(song: Song, genre_ratio: float) -> str:
    """Caption, or genre where no visit is to have the caption. Raises `Refused` where the song lacks it."""
    if song.override is Override.genre and not song.genre:
        raise Refused("prompt_override is genre, and it has none")
    if song.override is Override.genre or (song.override is None and genre_ratio == 100 and song.genre):
        return song.genre
    if not song.prompt.caption:
        raise Refused(NO_CAPTION)
    return song.prompt.caption


def _with_genre(
    song: Song, override: Override | None, ratio: float, tag: str, position: TagPosition, warnings: list[Fault]
) -> Song:
    """The song with the caption that takes its caption's place in `ratio` per cent of its visits."""
    if override is not None or not ratio:
        return song
    if not song.genre:
        warnings.append(Fault(song.name, f"has no genre to take its caption's place in {ratio:g} % of its visits"))
        return song
    if ratio == 100:
        return song
    return replace(song, genre_caption=tagged(song.genre, tag, position), genre_share=ratio / 100)
