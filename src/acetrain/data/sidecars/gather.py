"""All that stands beside a song, put together: which file counts where two give a field."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from acetrain.data import prompt
from acetrain.data.folder import Listing
from acetrain.data.sample import FIELDS, Sample
from acetrain.data.sidecars.kinds import KINDS
from acetrain.data.sidecars.tables import Tables
from acetrain.data.sidecars.text import read_text, why

_LONG = ("caption", "lyrics")
"""Fields whose values are not shown."""


@dataclass(frozen=True)
class Beside:
    """The sidecars of the songs of one folder."""

    listing: Listing
    stems: frozenset[str]
    """Names of the folder's audio files, without suffix."""
    tables: Tables

    def sample(self, audio: str) -> Sample:
        """What the sidecars of `audio`, a file of the folder, say of it, with what is wrong or contradictory."""
        sample = Sample()
        sources: dict[str, str] = {}
        for source, given in self._sources(os.path.splitext(audio)[0], sample):
            _lay_over(sample, sources, source, given)
        row, said = self.tables.row_of(audio)
        sample.warnings += said
        if row:
            _lay_over(sample, sources, row.table, row.given)
        return sample

    def _sources(self, stem: str, sample: Sample) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and content of each file, in rising order of precedence; those that cannot be read are faults."""
        for ending, read in KINDS:
            name = stem + ending
            if name not in self.listing.files or self._is_anothers(name, stem):
                continue
            try:
                given = read(read_text(os.path.join(self.listing.path, name)))
            except (OSError, ValueError) as error:
                sample.faults.append(f"{name}: {why(error)}")
                sample.caption_at_fault = True
            else:
                yield name, given

    def _is_anothers(self, name: str, stem: str) -> bool:
        """Whether a file belongs to a song of its whole name: `a_lyrics.txt` beside `a.wav` and `a_lyrics.wav`."""
        whole = os.path.splitext(name)[0]
        return whole != stem and whole in self.stems


def _lay_over(sample: Sample, sources: dict[str, str], source: str, given: Mapping[str, Any]) -> None:
    """Take what `source` gives over what there is; a disagreement is a warning."""
    values, faults = prompt.read(given, FIELDS)
    sample.faults += [f"{source}: {fault}" for fault in faults]
    sample.caption_at_fault |= any(fault.startswith("caption:") for fault in faults)
    if "lyrics" in values:
        sample.time_lyrics(given, values["lyrics"])
    for key, value in values.items():
        if key in sources and sample.values[key] != value:
            sample.warnings.append(_disagreement(key, source, value, sources[key], sample.values[key]))
        sample.values[key] = value
        sources[key] = source


def _disagreement(key: str, source: str, value: object, other: str, overruled: object) -> str:
    if key in _LONG:
        return f"{key}: {source} and {other} differ; {source}'s is taken"
    return f"{key}: {source} says {shown(value)}, {other} says {shown(overruled)}; {source}'s is taken"


def shown(value: object) -> str:
    """A value of a field as a file gives it."""
    return str(getattr(value, "name", value))
