"""`acetrain scan`: what is in a folder of songs, what is wrong with it, and what to think about before training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.data.songs import scan
from acetrain.errors import Failed, require

if TYPE_CHECKING:
    from acetrain.data.survey.collect import Survey


@dataclass
class Scan:
    """Decode every song once; tell what is there, what is wrong and what is advised. Exit code 1 where any is wrong."""

    songs: str
    """Folder of songs with their captions, lyrics and metadata beside them, or a dataset.json."""
    json: bool
    """Whether to print one JSON object instead of tables; `--json` says the same."""
    workers: int
    """Songs that are decoded at a time, at least 1."""

    def __post_init__(self) -> None:
        require(bool(self.songs), "songs", "a folder or a dataset.json", self.songs)
        require(self.workers >= 1, "workers", "at least 1", self.workers)

    def check(self) -> None:
        """Whether there are songs; opens no audio."""
        scan(Path(self.songs))

    def run(self) -> None:
        """Decode every song, tell what was found. Raises `Failed` where songs cannot be used."""
        from acetrain.data.survey.rules import advise

        found = self._survey()
        advice = advise(found)
        if self.json:
            from acetrain.data.survey.document import document

            print(json.dumps(document(self.songs, found, advice), indent=2, ensure_ascii=False))
        else:
            from acetrain.data.survey.table import console, page

            print(page(found, advice, console()))
        if found.faulty:
            raise Failed(f"songs: {len(found.faulty)} of {len(found.rows)} in {self.songs} cannot be used")

    def _survey(self) -> "Survey":
        from acetrain.data.survey.collect import survey
        from acetrain.tracking.counted import counted

        found = scan(Path(self.songs))
        with counted("decoding", len(found.songs) + len(found.unfit), stderr=True) as advance:
            return survey(found, self.workers, advance)
