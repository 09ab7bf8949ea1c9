"""`acetrain adopt`: tensors that the official trainer or Side-Step wrote, to a cache that training reads."""

import shlex
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.acestep.model import VARIANTS, Model
from acetrain.data.faults import Fault, report
from acetrain.data.foreign.encoding import fingerprint, warning
from acetrain.data.foreign.listing import LINEAGE, Listing, list_samples, recorded_variant
from acetrain.data.index import CachedSong
from acetrain.data.store import Store
from acetrain.errors import Refused, require
from acetrain.jobs.preprocess import OnError
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    from acetrain.data.foreign.convert import Checked
    from acetrain.data.foreign.sample import Form


@dataclass
class Adopt:
    """Turn the official trainer's or Side-Step's preprocessed tensors into a cache."""

    tensors: str
    """Folder of `.pt` files, with the `manifest.json` that the official trainer writes if there is one."""
    cache: str
    """Folder to write to; songs that it already holds are not converted again."""
    on_error: OnError
    """What files that cannot be used lead to: stop converts none, skip leaves them out; either names them all."""
    model: Model
    """The variant that the tensors were encoded by; they do not tell."""

    def __post_init__(self) -> None:
        require(bool(self.tensors), "tensors", "a folder of .pt files", self.tensors)
        require(bool(self.cache), "cache", "a folder", self.cache)
        same = Path(self.cache).resolve() == Path(self.tensors).resolve()
        require(not same, "cache", "another folder than tensors", self.cache)

    def check(self) -> None:
        """Whether there are tensors, of this variant if they tell one, and a place for the cache; reads no tensor."""
        _ = self.listing
        said, name = recorded_variant(Path(self.tensors)), self.model.name
        if said in VARIANTS and said != name:
            raise Refused(f"model: {LINEAGE} in {self.tensors} says they were encoded by {said}, asked for is {name}")
        writable_folder("cache", self.cache)
        self.store.check()

    @cached_property
    def listing(self) -> Listing:
        """The files to convert."""
        return list_samples(Path(self.tensors))

    @cached_property
    def store(self) -> Store:
        """The cache that is written."""
        return Store(Path(self.cache), fingerprint(self.model))

    def run(self) -> None:
        """Check all files, convert those that the cache lacks, and write its index."""
        from acetrain.data.foreign.convert import convert_samples
        from acetrain.tracking.counted import counted

        checked, faults = self._checked()
        done, left = [], []
        for sample in checked:
            song = self.store.find(sample.name, sample.sha256, sample.text)
            if song:
                done.append(replace(song, repeat=sample.repeat))
            else:
                left.append(sample)
        with counted("converting", len(left)) as advance:
            new = convert_samples(left, self._form(), self.store, advance)
        self.store.finish(done + new)
        self._summarise(checked, done, new, faults)

    def _form(self) -> "Form":
        from acetrain.data.foreign.sample import Form

        expected, transformer = self.store.fingerprint, self.model.config("transformer")
        return Form(expected.latent_channels, expected.condition_width, transformer["patch_size"])

    def _checked(self) -> "tuple[list[Checked], list[Fault]]":
        """Samples that can be used, and the faults of those left out. Raises `Refused` as `on_error` says."""
        from acetrain.data.foreign.convert import check_samples
        from acetrain.tracking.counted import counted

        with counted("checking", len(self.listing.files)) as advance:
            checked, faults = check_samples(self.listing, self._form(), advance)
        if faults and (self.on_error is OnError.stop or not checked):
            print("\n".join([*self.listing.notes, *report(faults)]), file=sys.stderr)
            hint = " (on_error=skip leaves them out)" if self.on_error is OnError.stop else ""
            raise Refused(f"tensors: {len(faults)} files in {self.tensors} cannot be used{hint}")
        return checked, faults

    def _summarise(
        self, checked: "list[Checked]", done: list[CachedSong], new: list[CachedSong], faults: list[Fault]
    ) -> None:
        notes = [*self.listing.notes]
        genres = sum(sample.has_genre for sample in checked)
        if genres:
            notes.append(f"{genres} files: hold a second condition, from the genre; the caption's is taken")
        notes += [f"left out:{line}" for line in report(faults)]
        print("\n".join([*notes, warning(self.cache, self.model)]), file=sys.stderr)
        seconds = sum(song.seconds for song in done + new)
        print(f"cache: {self.cache} ({len(new)} songs converted, {len(done)} there already)")
        print(f"songs: {len(done + new)} ({seconds:.1f} s)")
        print(f"next: acetrain train {self.model.arguments()} cache={shlex.quote(self.cache)}")
