"""Songs on disk: audio files, and what stands beside them."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acetrain.data.faults import Fault
from acetrain.data.folder import Listing, walk
from acetrain.data.formats import AUDIO
from acetrain.data.prompt import INSTRUMENTAL, NO_CAPTION, Prompt, made_of
from acetrain.data.sample import Sample
from acetrain.data.script import Script
from acetrain.data.sidecars.gather import Beside
from acetrain.data.sidecars.tables import Tables
from acetrain.data.wording import Override, Settings
from acetrain.errors import Refused

_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a name cannot be written down with: controls, line ends, and bytes that are not UTF-8."""


@dataclass(frozen=True)
class Song:
    """An audio file and its prompt."""

    name: str
    """Path below the songs folder, with `/` and suffix, in Unicode's composed form; unique."""
    audio: Path
    prompt: Prompt
    """As the files say it; `Prompts.apply` words it for training."""
    genre: str = ""
    repeat: int = 1
    """Visits in a pass over the songs."""
    tag: str = ""
    """Activation tag of this song alone, over that of its data set; empty for none."""
    override: Override | None = None
    """What describes it, whatever the genre ratio; None leaves it to the ratio."""
    captions: tuple[str, ...] = ()
    """Further wordings of the caption, for visits to draw from."""
    genre_caption: str = ""
    """Caption made of the genre, for visits to draw; empty where none draws it."""
    genre_share: float = 0.0
    """Share of the visits that draw it."""
    times: tuple[float | None, ...] = ()
    """Second at which each line of the lyrics starts, None where it is not known; empty where none is."""

    def script(self, window: float | None) -> Script:
        """All that is said of it, where visits take `window` seconds of it or, with None, the whole."""
        return Script(self.prompt, self.captions, self.genre_caption, self.times, window)


@dataclass
class Scan:
    """The songs of a folder, in order of name, and what is wrong with the others."""

    songs: list[Song] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unfit: list[tuple[str, Path]] = field(default_factory=list)
    """Name and audio of songs whose text is at fault; their audio may be at fault as well."""
    warnings: list[Fault] = field(default_factory=list)
    """What is doubtful and stops nothing: contradictory sidecars, and which of them was taken."""
    settings: Settings = field(default_factory=Settings)
    """What the dataset.json says of all songs."""

    def add(self, name: str, audio: Path, sample: Sample, caption_hint: str = "", caption_needed: bool = True) -> None:
        """Add a song made of what was read about it, or its faults.

        Its name is composed: file systems spell accents in two ways, and a copied folder must hold the same songs.
        """
        name = unicodedata.normalize("NFC", name)
        faults = list(sample.faults)
        values = dict(sample.values)
        if caption_needed and not sample.caption_at_fault and not values.get("caption"):
            faults.append(f"{NO_CAPTION} ({caption_hint})" if caption_hint else NO_CAPTION)
        breaks_lines = not name.isprintable() and any(map(_cannot_be_written, name))
        shown = ascii(name)[1:-1] if breaks_lines else name
        if breaks_lines:
            faults.append("its name holds control characters or is not UTF-8")
        self.faults += [Fault(shown, what) for what in faults]
        self.warnings += [Fault(shown, what) for what in sample.warnings]
        if faults:
            self.unfit.append((shown, audio))
            return
        if values.get("is_instrumental") and values.get("lyrics", INSTRUMENTAL) != INSTRUMENTAL:
            self.warnings.append(Fault(shown, "is_instrumental is true: its lyrics are left out"))
            values["lyrics"] = INSTRUMENTAL
        genre, repeat, tag = values.get("genre", ""), values.get("repeat", 1), values.get("custom_tag", "")
        override, times = values.get("prompt_override"), sample.times
        self.songs.append(Song(name, audio, made_of(values), genre, repeat, tag, override, times=times))


def scan(source: Path, caption_needed: bool = True) -> Scan:
    """Songs of a folder and everything below it, or of a `dataset.json`. No audio is opened.

    A song without a caption is a fault, unless `caption_needed` is False. Raises `Refused` where `source` is neither
    folder nor data set, or holds no song.
    """
    if source.is_dir():
        found = _scan_folder(source, caption_needed)
    elif source.suffix == ".json" and source.is_file():
        from acetrain.data.dataset_json import scan_dataset

        found = scan_dataset(source, caption_needed)
    else:
        what = "is neither a folder nor a dataset.json" if source.exists() else "does not exist"
        raise Refused(f"songs: {source} {what}")
    if not found.songs and not found.faults:
        raise Refused(f"songs: {source} holds no audio\nread are {', '.join(sorted(AUDIO))}")
    _tell_apart(found)
    found.songs.sort(key=lambda song: song.name)
    found.unfit.sort()
    return found


def _tell_apart(found: Scan) -> None:
    """Leave the first song of each name; others that have it are at fault."""
    first: dict[str, Song] = {}
    for song in found.songs:
        if first.setdefault(song.name, song) is not song:
            what = (
                f"{first[song.name].audio.name!a} beside it has the same name, its accents spelt otherwise; rename one"
            )
            found.faults.append(Fault(song.name, what))
            found.unfit.append((song.name, song.audio))
    found.songs = list(first.values())


def _scan_folder(folder: Path, caption_needed: bool) -> Scan:
    found = Scan()
    for listing in walk(folder, lambda name, what: found.warnings.append(Fault(name, what))):
        _scan_listing(found, listing, caption_needed)
    return found


def _scan_listing(found: Scan, listing: Listing, caption_needed: bool) -> None:
    """Add the songs of one folder."""
    for name in sorted(filter(_is_audio, listing.dead)):
        found.faults.append(Fault(listing.prefix + name, "is no file; where it is a link, it leads nowhere"))
    by_stem: dict[str, list[str]] = {}
    for name in sorted(filter(_is_audio, listing.files)):
        by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
    if not by_stem:
        return
    tables = Tables.of(listing)
    found.faults += [Fault(listing.prefix + name, what) for name, what in tables.faults]
    found.warnings += [Fault(listing.prefix + name, what) for name, what in tables.warnings]
    beside = Beside(listing, frozenset(by_stem), tables)
    for stem, names in by_stem.items():
        found.warnings += _shared(listing.prefix, names)
        for name in names:
            hint = f"write {stem}.caption.txt"
            sample = beside.sample(name)
            found.add(listing.prefix + name, Path(listing.path, name), sample, hint, caption_needed)


def _shared(prefix: str, names: Sequence[str]) -> list[Fault]:
    """What is to be said where several audio files have one name but for their suffix."""
    if len(names) == 1:
        return []
    return [Fault(prefix + names[0], f"shares the files beside it with {', '.join(names[1:])}: all are taken as songs")]


def _cannot_be_written(character: str) -> bool:
    return unicodedata.category(character) in _NOT_IN_NAMES


def _is_audio(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in AUDIO
