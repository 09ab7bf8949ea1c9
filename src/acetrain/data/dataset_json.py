"""Songs listed in a `dataset.json`, in the official trainer's form or the older one.

`{"metadata": {"custom_tag": ..., ...}, "samples": [{"audio_path": ..., "caption": ...}, ...]}`, or the settings beside
`samples`: `{"dataset_name": ..., "activation_tag": ..., "tag_position": ..., "samples": [...]}`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from types import MappingProxyType
from typing import Any

from acetrain import atomic
from acetrain.data import prompt
from acetrain.data.faults import Fault
from acetrain.data.formats import AUDIO
from acetrain.data.prompt import INSTRUMENTAL, text
from acetrain.data.sample import FIELDS, OTHER_NAMES, Sample, refuse_misspelt, renamed
from acetrain.data.sidecars import lrc
from acetrain.data.songs import Scan, Song
from acetrain.data.wording import Settings, TagPosition
from acetrain.errors import Refused, nearest, require

_OLDER_NAMES = {"dataset_name": "name", "activation_tag": "custom_tag"}
"""Key of the older form -> the metadata it is."""


def scan_dataset(file: Path, caption_needed: bool = True) -> Scan:
    """The songs of a dataset file; audio paths are relative to it. No audio is opened.

    Raises `Refused` where the file is not of either form, or where a setting breaks its rule.
    """
    metadata, samples = _read(file)
    settings = _settings(file, metadata)
    caption_needed = caption_needed and not (settings.tag and settings.tag_position is TagPosition.replace)
    found = Scan(settings=settings)
    seen: set[str] = set()
    for position, entry in enumerate(samples):
        where = f"{file.name}, sample {position}"
        audio = _audio_of(entry, file.parent)
        if audio is None:
            named = entry.get("audio_path") or entry.get("filename") if isinstance(entry, dict) else entry
            found.faults.append(Fault(where, f"audio_path {named!r} is no file that can be read"))
            continue
        name = Path(os.path.relpath(audio, file.parent)).as_posix()
        if name in seen:
            found.faults.append(Fault(where, f"{name} is listed twice"))
            continue
        seen.add(name)
        found.add(name, audio, _sample(entry, settings.tag), f"of {where}", caption_needed)
    return found


def _read(file: Path) -> tuple[dict[str, Any], list[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        samples = content["samples"]
        metadata = content.get("metadata", renamed(content, _OLDER_NAMES))
    except UnicodeDecodeError as error:
        raise Refused(f"songs: {file} is not UTF-8") from error
    except RecursionError as error:
        raise Refused(f"songs: {file} is not a dataset with metadata and samples (nested too deeply)") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"songs: {file} is not a dataset with metadata and samples ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(samples, list):
        raise Refused(f"songs: {file}: metadata must be an object and samples a list")
    return metadata, samples


def _settings(file: Path, metadata: Mapping[str, Any]) -> Settings:
    given = {key: metadata.get(key) for key in _SETTINGS if metadata.get(key) not in (None, "")}
    try:
        values = {field: read(given[key]) for key, (field, read) in _SETTINGS.items() if key in given}
    except Refused as refusal:
        raise Refused(f"songs: {file}: {refusal}") from refusal
    return Settings(**values)


def _position(value: object) -> TagPosition:
    known = isinstance(value, str) and value.lower() in TagPosition.__members__
    if not known:
        raise Refused(f"tag_position: there is no {value!r}; {nearest(str(value), TagPosition.__members__)}")
    return TagPosition[str(value).lower()]


def _ratio(value: object) -> float:
    holds = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
    require(holds, "genre_ratio", "a percentage from 0 to 100", value)
    return value if isinstance(value, int | float) else 0


def _truth(value: object) -> bool:
    require(isinstance(value, bool), "all_instrumental", "true or false", value)
    return bool(value)


_SETTINGS = {
    "name": ("name", lambda value: text("name", value)),
    "custom_tag": ("tag", lambda value: text("custom_tag", value)),
    "tag_position": ("tag_position", _position),
    "genre_ratio": ("genre_ratio", _ratio),
    "all_instrumental": ("all_instrumental", _truth),
}
"""Key of the metadata -> field of `Settings`, and what reads it."""


def _audio_of(entry: Any, folder: Path) -> Path | None:
    """The audio a sample names, or a file of that name beside the data set, as one that was moved has it."""
    if not isinstance(entry, dict):
        return None
    named = [entry[key] for key in ("audio_path", "filename") if isinstance(entry.get(key), str)]
    for path in [*named, *(PureWindowsPath(path).name for path in named)]:
        audio = folder / path
        if audio.suffix.lower() in AUDIO and audio.is_file():
            return audio
    return None


def _sample(entry: Mapping[str, Any], tag: str) -> Sample:
    entry = renamed(entry, OTHER_NAMES)
    try:
        refuse_misspelt(entry)
    except ValueError as error:
        return Sample(faults=[str(error)], caption_at_fault=True)
    values, faults = prompt.read(entry, FIELDS)
    if values.get("custom_tag") == tag:
        del values["custom_tag"]
    sample = Sample(values, faults, caption_at_fault=any(fault.startswith("caption:") for fault in faults))
    if "lyrics" in values:
        sample.times = lrc.times(entry["lyrics"])
    return sample


def write_dataset(
    file: Path, found: Scan, settings: Settings, seconds: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Write the songs of a scan atomically, in the official trainer's form; scanning the file gives the same songs.

    Paths are relative to the file, and songs are named by them: beside the songs they keep their names. `seconds` maps
    names to durations, where they are known.
    """
    metadata = {
        "name": settings.name or file.parent.resolve().name,
        "custom_tag": settings.tag,
        "tag_position": settings.tag_position.name,
        "all_instrumental": settings.all_instrumental,
        "genre_ratio": settings.genre_ratio,
        "num_samples": len(found.songs),
    }
    samples = [_entry(song, file.parent, settings, seconds.get(song.name, 0)) for song in found.songs]
    content = {"metadata": metadata, "samples": samples}
    atomic.write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _entry(song: Song, folder: Path, settings: Settings, seconds: float) -> dict[str, Any]:
    path = Path(os.path.relpath(song.audio, folder)).as_posix()
    return {
        "id": hashlib.sha256(path.encode()).hexdigest()[:8],
        "audio_path": path,
        "filename": song.audio.name,
        "caption": song.prompt.caption,
        "genre": song.genre,
        "lyrics": song.prompt.lyrics,
        "bpm": song.prompt.bpm,
        "keyscale": song.prompt.keyscale,
        "timesignature": song.prompt.timesignature,
        "duration": round(seconds),
        "language": song.prompt.language,
        "is_instrumental": song.prompt.lyrics == INSTRUMENTAL,
        "custom_tag": song.tag or settings.tag,
        "labeled": True,
        "prompt_override": song.override.name if song.override else None,
        "repeat": song.repeat,
    }
