"""Songs on disk: audio files, and what stands beside them."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from acetrain.data import prompt
from acetrain.data.faults import Fault
from acetrain.data.formats import READ, UNREAD
from acetrain.data.prompt import NO_CAPTION, Prompt
from acetrain.errors import Refused

_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a name cannot be written down with: controls, line ends, and bytes that are not UTF-8."""


@dataclass(frozen=True)
class Song:
    """An audio file and its prompt."""

    name: str
    """Path below the songs folder, with `/` and suffix; unique."""
    audio: Path
    prompt: Prompt


@dataclass
class Scan:
    """The songs of a folder, in order of name, and what is wrong with the others."""

    songs: list[Song] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unfit: list[tuple[str, Path]] = field(default_factory=list)
    """Name and audio of songs whose text is at fault; their audio may be at fault as well."""

    def add(self, name: str, audio: Path, given: dict[str, Any], faults: list[str], caption_hint: str) -> None:
        """Add a song made of the fields that are given, or its faults."""
        made, wrong = prompt.build(given)
        wrong = [
            f"{what} ({caption_hint})" if what == NO_CAPTION else what
            for what in wrong
            if what != NO_CAPTION or not faults
        ]
        breaks_lines = any(unicodedata.category(character) in _NOT_IN_NAMES for character in name)
        shown = ascii(name)[1:-1] if breaks_lines else name
        if breaks_lines:
            wrong.append("its name holds control characters or is not UTF-8")
        if made and not faults + wrong:
            self.songs.append(Song(name, audio, made))
        else:
            self.unfit.append((shown, audio))
        self.faults += [Fault(shown, what) for what in faults + wrong]


def scan(source: Path) -> Scan:
    """Songs of a folder and everything below it, or of a `dataset.json`. No audio is opened.

    Raises `Refused` where `source` is neither, or holds no song.
    """
    if source.is_dir():
        found = _scan_folder(source)
    elif source.suffix == ".json" and source.is_file():
        from acetrain.data.dataset_json import scan_dataset

        found = scan_dataset(source)
    else:
        what = "is neither a folder nor a dataset.json" if source.exists() else "does not exist"
        raise Refused(f"songs: {source} {what}")
    if not found.songs and not found.faults:
        raise Refused(f"songs: {source} holds no audio\nread are {', '.join(sorted(READ))}")
    return found


def _scan_folder(folder: Path) -> Scan:
    found = Scan()
    for audio in sorted(_audio_files(folder), key=lambda path: path.relative_to(folder).as_posix()):
        name = audio.relative_to(folder).as_posix()
        if audio.suffix.lower() in UNREAD:
            found.faults.append(Fault(name, f"{audio.suffix} is not read (convert it to flac)"))
            continue
        given, faults = read_sidecars(audio)
        found.add(name, audio, given, faults, f"write {audio.stem}.caption.txt")
    return found


def _audio_files(folder: Path) -> Iterator[Path]:
    """Files with an audio suffix, in no order; what is hidden is not looked at."""
    for parent, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in READ | UNREAD:
                yield Path(parent, name)


def _refuse_unreadable(error: OSError) -> None:
    raise Refused(f"songs: {error.filename} cannot be listed ({error.strerror})")


def read_sidecars(audio: Path) -> tuple[dict[str, Any], list[str]]:
    """Prompt fields from the files beside `audio`, later kinds over earlier ones, and what is wrong with the files."""
    given: dict[str, Any] = {}
    faults: list[str] = []
    for ending, read in SIDECARS.items():
        file = audio.with_name(audio.stem + ending)
        if not file.exists():
            continue
        try:
            given |= {key: value for key, value in read(file).items() if value is not None}
        except UnicodeDecodeError:
            faults.append(f"{file.name} is not UTF-8")
        except (OSError, ValueError, TypeError) as error:
            faults.append(f"{file.name}: {error}")
    return given, faults


def _read_text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig")


def _read_json(file: Path) -> dict[str, Any]:
    content = json.loads(_read_text(file))
    if not isinstance(content, dict):
        raise TypeError("not a JSON object")
    refuse_misspelt(content)
    return {key: content.get(key) for key in JSON_FIELDS}


def refuse_misspelt(content: dict[str, Any]) -> None:
    """Raise ValueError for an unknown key that is all but a known one; other tools' keys are left alone."""
    for key in content:
        close = get_close_matches(key, prompt.FIELDS, n=1, cutoff=0.8)
        if key not in prompt.FIELDS and close:
            raise ValueError(f"unknown key {key!r}; nearest: {close[0]}")


JSON_FIELDS = ("caption", "bpm", "keyscale", "timesignature", "language")
"""The fields of a `.json` sidecar, all optional."""

SIDECARS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".caption.txt": lambda file: {"caption": _read_text(file)},
    ".lyrics.txt": lambda file: {"lyrics": _read_text(file)},
    ".json": _read_json,
}
"""What may stand beside `NAME.wav` as `NAME` + ending, in rising order of precedence."""
