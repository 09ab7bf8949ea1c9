"""How songs are worded for training: activation tag, genres, lyrics and metadata."""

from dataclasses import dataclass, replace

from acetrain.data.faults import Fault
from acetrain.data.prompt import INSTRUMENTAL, NO_CAPTION
from acetrain.data.songs import Scan, Song
from acetrain.data.wording import Override, Settings, TagPosition, drawn_for_genre, tagged
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
    """Percentage of the songs, from 0 to 100, whose genre takes the caption's place; a song's name decides. null: as
    the dataset.json says, else 0."""
    all_instrumental: bool | None
    """Whether lyrics are left out of all songs; null: as the dataset.json says, else false."""
    skip_metas: bool
    """Whether tempo, key and meter are withheld: the model is told N/A. The duration is always told."""

    def __post_init__(self) -> None:
        require(self.tag == self.tag.strip() and "\n" not in self.tag, "prompts.tag", "a word or a few", self.tag)
        ratio = self.genre_ratio
        require(ratio is None or 0 <= ratio <= 100, "prompts.genre_ratio", "from 0 to 100, or null", ratio)

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

    def apply(self, found: Scan) -> Scan:
        """The scan with every song's prompt as it is trained; songs that cannot be worded become faults."""
        settings = self.settings(found.settings)
        worded = Scan([], list(found.faults), list(found.unfit), list(found.warnings), Settings(settings.name))
        for song in found.songs:
            try:
                worded.songs.append(self._word(song, settings, worded.warnings))
            except Refused as refusal:
                worded.faults.append(Fault(song.name, str(refusal)))
                worded.unfit.append((song.name, song.audio))
        return worded

    def _word(self, song: Song, settings: Settings, warnings: list[Fault]) -> Song:
        tag = self.tag or song.tag or settings.tag
        replaced = tag and settings.tag_position is TagPosition.replace
        text = "" if replaced else _description(song, settings.genre_ratio, warnings)
        prompt = replace(song.prompt, caption=tagged(text, tag, settings.tag_position))
        if settings.all_instrumental:
            prompt = replace(prompt, lyrics=INSTRUMENTAL)
        if self.skip_metas:
            prompt = replace(prompt, bpm=None, keyscale="", timesignature="")
        return replace(song, prompt=prompt, tag="", override=None)


def _description(song: Song, genre_ratio: float, warnings: list[Fault]) -> str:
    """Caption or genre. Raises `Refused` where the song lacks the one it is to be described by."""
    if song.override is Override.genre and not song.genre:
        raise Refused("prompt_override is genre, and it has none")
    drawn = song.override is None and drawn_for_genre(song.name, genre_ratio)
    if song.override is Override.genre or (drawn and song.genre):
        return song.genre
    if drawn:
        warnings.append(Fault(song.name, "is drawn to be described by its genre and has none; its caption is taken"))
    if not song.prompt.caption:
        raise Refused(NO_CAPTION)
    return song.prompt.caption
