"""`acetrain scan`: what is in a folder of songs, what is wrong with it, and what to think about before training."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.data.formats import LONGEST
from acetrain.data.prompts import Prompts
from acetrain.data.songs import Scan as Found
from acetrain.data.songs import scan
from acetrain.errors import Failed, Refused, require
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    from acetrain.data.survey.collect import Survey


@dataclass
class Scan:
    """Decode every song once; tell what is there, what is wrong and what is advised. Exit code 1 where any is wrong."""

    songs: str
    """Folder of songs with their captions, lyrics and metadata beside them, or a dataset.json."""
    output: str
    """The dataset.json to write, in the official trainer's form and without the songs that have a fault; empty for
    none."""
    overwrite: bool
    """Whether to replace an output that says something else."""
    json: bool
    """Whether to print one JSON object instead of tables; `--json` says the same."""
    max_duration: float | None
    """Seconds of each song that are looked at, from its start, at most 600, as for preprocess; null looks at all."""
    workers: int
    """Songs that are decoded at a time, at least 1."""
    prompts: Prompts

    def __post_init__(self) -> None:
        require(bool(self.songs), "songs", "a folder or a dataset.json", self.songs)
        require(not self.output or self.output.endswith(".json"), "output", "a .json file, or empty", self.output)
        longest, rule = self.max_duration, f"above 0 and at most {LONGEST}, or null"
        require(longest is None or 0 < longest <= LONGEST, "max_duration", rule, longest)
        require(self.workers >= 1, "workers", "at least 1", self.workers)

    def check(self) -> None:
        """Whether there are songs and a place for the output; opens no audio and creates nothing."""
        if self.output:
            writable_folder("output", Path(self.output).parent)
            require(not Path(self.output).is_dir(), "output", "a file, not a folder", self.output)
        self._scanned()

    def run(self) -> None:
        """Decode every song, tell what was found, and write it. Raises `Failed` where songs cannot be used."""
        from acetrain.data.survey.collect import survey
        from acetrain.tracking.counted import counted

        found = self._scanned()
        with counted("decoding", len(found.songs) + len(found.unfit), stderr=True) as advance:
            heard = survey(found, self.max_duration, self.workers, advance)
        self._tell(heard)
        if self.output and heard.songs:
            self._write(found, heard)
        if heard.faulty:
            raise Failed(f"songs: {len(heard.faulty)} of {len(heard.rows)} in {self.songs} cannot be used")

    def _scanned(self) -> Found:
        """The songs as their files say it, and all that keeps one from being trained as `prompts` says."""
        found = scan(Path(self.songs), self.prompts.needs_captions())
        worded = self.prompts.apply(found, seed=0)
        names = {song.name for song in worded.songs}
        songs = [replace(song, tag="" if self.prompts.tag else song.tag) for song in found.songs if song.name in names]
        return replace(worded, songs=songs, settings=self.prompts.settings(found.settings))

    def _tell(self, heard: "Survey") -> None:
        from acetrain.data.survey.document import document
        from acetrain.data.survey.rules import advise
        from acetrain.data.survey.table import console, page

        if self.json:
            print(json.dumps(document(self.songs, heard, advise(heard)), indent=2, ensure_ascii=False))
            return
        print(page(heard, advise(heard), console()))
        if heard.songs and not self.output:
            print("\noutput=dataset.json writes them to one, in the official trainer's form")

    def _write(self, found: Found, heard: "Survey") -> None:
        from acetrain import atomic
        from acetrain.data.dataset_json import write_dataset

        file, seconds = Path(self.output), {song.name: song.audio.seconds for song in heard.songs}
        usable = replace(found, songs=[song for song in found.songs if song.name in seconds])
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as temporary:
            write_dataset(temporary, usable, found.settings, seconds)
            if file.exists() and not self.overwrite and file.read_bytes() != temporary.read_bytes():
                raise Refused(f"output: {file} is there already and says something else; overwrite=true replaces it")
        out = sys.stderr if self.json else sys.stdout
        print(f"\noutput: {shlex.quote(self.output)} ({len(seconds)} songs)", file=out)
