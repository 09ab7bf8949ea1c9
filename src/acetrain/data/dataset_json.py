"""Songs listed in a `dataset.json`: `{"metadata": {...}, "samples": [{"audio_path": ..., "caption": ...}, ...]}`."""

import json
import os
from pathlib import Path
from typing import Any

from acetrain.data.faults import Fault
from acetrain.data.formats import READ
from acetrain.data.prompt import FIELDS, INSTRUMENTAL
from acetrain.data.songs import Scan, refuse_misspelt
from acetrain.errors import Refused

_NOT_APPLIED = {"custom_tag": "", "genre_ratio": 0, "prompt_override": "", "repeat": 1}
"""Settings of other trainers -> the value that asks for nothing: refused where they ask for anything."""


def scan_dataset(file: Path) -> Scan:
    """The songs of a dataset file; audio paths are relative to it. No audio is opened.

    Raises `Refused` where the file is not of the form.
    """
    metadata, samples = _read(file)
    found = Scan()
    seen: set[str] = set()
    for position, sample in enumerate(samples):
        where = f"{file.name}, sample {position}"
        audio = _audio_of(sample, file.parent)
        if audio is None:
            named = sample.get("audio_path") or sample.get("filename") if isinstance(sample, dict) else sample
            found.faults.append(Fault(where, f"audio_path {named!r} is no file that can be read"))
            continue
        name = Path(os.path.relpath(audio, file.parent)).as_posix()
        if name in seen:
            found.faults.append(Fault(where, f"{name} is listed twice"))
            continue
        seen.add(name)
        found.add(name, audio, *_fields(sample, metadata), caption_hint=f"of {where}")
    found.songs.sort(key=lambda song: song.name)
    return found


def _read(file: Path) -> tuple[dict[str, Any], list[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        metadata, samples = content.get("metadata", {}), content["samples"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"songs: {file} is not a dataset with metadata and samples ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(samples, list):
        raise Refused(f"songs: {file}: metadata must be an object and samples a list")
    for key in _not_applied(metadata):
        raise Refused(f"songs: {file}: metadata.{key} is {metadata[key]!r}, which is not applied")
    return metadata, samples


def _audio_of(sample: Any, folder: Path) -> Path | None:
    if not isinstance(sample, dict):
        return None
    for key in ("audio_path", "filename"):
        named = sample.get(key)
        if isinstance(named, str) and (audio := folder / named).suffix.lower() in READ and audio.is_file():
            return audio
    return None


def _fields(sample: dict[str, Any], metadata: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    try:
        refuse_misspelt(sample)
    except ValueError as error:
        return {}, [str(error)]
    given = {key: sample.get(key) for key in FIELDS}
    if sample.get("is_instrumental") is True or metadata.get("all_instrumental") is True:
        given["lyrics"] = INSTRUMENTAL
    return given, [f"{key} is not applied" for key in _not_applied(sample)]


def _not_applied(settings: dict[str, Any]) -> list[str]:
    return [key for key, neutral in _NOT_APPLIED.items() if settings.get(key) not in (None, neutral)]
