"""A survey as programs read it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from acetrain.data.songs import Song
from acetrain.data.survey.collect import Row, Survey, Usable
from acetrain.data.survey.rules import Advice, flags

VERSION = 1
"""Rises when a key is taken away or changes its meaning; new keys may come at any time."""


def document(source: str, found: Survey, advice: Sequence[Advice]) -> dict[str, Any]:
    """The survey of `source` as JSON's own types; what is unknown is null."""
    usable = {song.name: song for song in found.songs}
    return {
        "version": VERSION,
        "songs": source,
        "totals": totals(found),
        "settings": {**asdict(found.settings), "tag_position": found.settings.tag_position.name},
        "files": [_file(row, usable.get(row.name)) for row in found.rows],
        "faults": [{"file": row.name, "what": what} for row in found.faulty for what in row.faults],
        "warnings": [asdict(warning) for warning in found.warnings],
        "advice": [{"rule": one.rule, "what": one.what, "songs": list(one.songs)} for one in advice],
    }


def totals(found: Survey) -> dict[str, float]:
    """Counts over the songs that can be used, their seconds, and how many files have a fault."""
    songs = found.songs
    return {
        "files": len(found.rows),
        "usable": len(songs),
        "faulty": len(found.faulty),
        "seconds": round(found.seconds, 3),
        "with_caption": sum(bool(song.prompt.caption) for song in songs),
        "with_lyrics": sum(song.sung for song in songs),
        "with_bpm": sum(song.prompt.bpm is not None for song in songs),
        "with_key": sum(bool(song.prompt.keyscale) for song in songs),
    }


def _file(row: Row, usable: Usable | None) -> dict[str, Any]:
    audio = asdict(row.audio) if row.audio else None
    flagged = flags(usable) if usable else []
    return {"file": row.name, "text": _text(row.song), "audio": audio, "faults": list(row.faults), "flags": flagged}


def _text(song: Song | None) -> dict[str, Any] | None:
    """What the files beside a song say, before an activation tag or a genre changes it."""
    if song is None:
        return None
    prompt = {key: value or None for key, value in asdict(song.prompt).items()}
    override = song.override.name if song.override else None
    return {**prompt, "genre": song.genre or None, "tag": song.tag or None, "override": override, "repeat": song.repeat}
