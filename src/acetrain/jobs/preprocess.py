"""`acetrain preprocess`: a folder of songs to a cache that training reads."""

import math
import shlex
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from acetrain.acestep.model import Model
from acetrain.acestep.weights import Stamp, hash_weights, stamps
from acetrain.data.faults import Fault, report
from acetrain.data.formats import LONGEST
from acetrain.data.index import INDEX, CachedSong, Fingerprint, read_index
from acetrain.data.prompts import Prompts
from acetrain.data.songs import Scan, scan
from acetrain.data.store import Store
from acetrain.errors import Failed, Refused, require
from acetrain.training.precision import Format, Precision
from acetrain.training.trainer import Accelerator
from acetrain.writable import writable_folder

if TYPE_CHECKING:
    import torch

    from acetrain.data.check import Checked


class OnError(Enum):
    """What to do about songs that cannot be used."""

    stop = "stop"
    skip = "skip"


@dataclass
class Preprocess:
    """Encode songs, with their captions, lyrics and metadata, into a cache."""

    songs: str
    """Folder of songs with captions, lyrics and metadata beside them (docs/data.md), or a dataset.json."""
    cache: str
    """Folder to write to; songs that it already holds are not encoded again."""
    seed: int
    """Seed of the noise with which latents are drawn from the autoencoder's posterior, and of shuffled tags."""
    max_duration: float | None
    """Seconds of each song that are used, from its start, at most 600; null uses all of it."""
    crop_seconds: float | None
    """Seconds of a longer song that a visit may hear in training (`data.crop_seconds`), at least 1: prompts are encoded
    that state this length, with the lyrics that are sung in each part of the song. null encodes whole songs alone."""
    loudness: float | None
    """Integrated loudness in LUFS (ITU-R BS.1770-4) that each song is brought to by one gain, from -40 to 0; what the
    models make lies between -16 and -12. Gain stops where a peak would rise above -1 dB, and says so. null leaves songs
    as loud as they are."""
    on_error: OnError
    """What songs that cannot be used lead to: stop encodes none, skip leaves them out; either names them all."""
    accelerator: Accelerator
    """Kind of device that encodes; auto takes a GPU where there is one."""
    model: Model
    precision: Precision
    prompts: Prompts

    def __post_init__(self) -> None:
        require(bool(self.songs), "songs", "a folder or a dataset.json", self.songs)
        require(bool(self.cache), "cache", "a folder", self.cache)
        longest = self.max_duration
        rule = f"above 0 and at most {LONGEST}, or null"
        require(longest is None or 0 < longest <= LONGEST, "max_duration", rule, longest)
        crop, rule = self.crop_seconds, f"at least 1 and at most {LONGEST}, or null"
        require(crop is None or 1 <= crop <= LONGEST, "crop_seconds", rule, crop)
        level = self.loudness
        require(level is None or -40 <= level <= 0, "loudness", "from -40 to 0 LUFS, or null", level)
        self.precision.check_encoding("preprocess")

    def check(self) -> None:
        """Whether there are songs and a place for the cache; opens no audio and creates nothing."""
        self._scanned()
        writable_folder("cache", self.cache)

    def run(self) -> None:
        """Check all songs, encode those that the cache lacks, and write its index."""
        from acetrain.data.stage import Stage

        checked, faults = self._checked_songs()
        store = Store(Path(self.cache), self._fingerprint())
        store.check()
        done, missing = [], []
        for item in checked:
            text = item.song.script(self.crop_seconds).digest()
            song = store.find(item.song.name, item.sha256, text, self.max_duration)
            if song:
                done.append(replace(song, repeat=item.song.repeat, genre_share=item.song.genre_share))
            else:
                missing.append(item)
        new = self._encode(store, missing)
        if not done + new:
            raise Failed(f"songs: none in {self.songs} could be encoded")
        store.finish(done + new)
        Stage(store.folder).clear()
        self._summarise(done, new, faults)

    def _scanned(self) -> Scan:
        """The songs as they are trained."""
        return self.prompts.apply(scan(Path(self.songs), self.prompts.needs_captions()), self.seed)

    def _checked_songs(self) -> "tuple[list[Checked], list[Fault]]":
        """Songs that can be used, and the faults of those left out. Raises `Refused` as `on_error` says."""
        from acetrain.data.check import check_audio
        from acetrain.tracking.counted import counted

        found = self._scanned()
        for line in report(found.warnings):
            print(f"warning:{line}", file=sys.stderr)
        vae = self.model.config("vae")
        frame = math.prod(vae["downsampling_ratios"]) / vae["sampling_rate"]
        shortest = frame * self.model.config("transformer")["patch_size"]
        with counted("checking", len(found.songs) + len(found.unfit)) as advance:
            checked, faults = check_audio(found, shortest, Path(self.cache), self.max_duration, advance)
        if faults and (self.on_error is OnError.stop or not checked):
            raise Refused(self._told(faults))
        return checked, faults

    def _told(self, faults: list[Fault]) -> str:
        """Tell every fault by file on stderr; the sum of them."""
        print("\n".join(report(faults)), file=sys.stderr)
        count = len({fault.file for fault in faults})
        hint = " (on_error=skip leaves them out)" if self.on_error is OnError.stop else ""
        return f"songs: {count} in {self.songs} cannot be used{hint}"

    def _fingerprint(self) -> Fingerprint:
        from acetrain.acestep.conditions import template_digest

        vae = self.model.config("vae")
        files = stamps(self.model.checkpoint)
        return Fingerprint(
            variant=self.model.name,
            weights=self._remembered_hash(files) or hash_weights(self.model.checkpoint),
            weights_files=files,
            template=template_digest(),
            timbre=self.model.timbre,
            precision=self._encoding.name,
            seed=self.seed,
            latent_channels=vae["decoder_input_channels"],
            condition_width=self.model.config("condition_encoder")["hidden_size"],
            frame_rate=vae["sampling_rate"] / math.prod(vae["downsampling_ratios"]),
            sample_rate=vae["sampling_rate"],
            loudness=self.loudness,
        )

    @property
    def _device(self) -> "torch.device":
        from acetrain.training.device import device_of

        return device_of(self.accelerator)

    @property
    def _encoding(self) -> Format:
        """The format that songs are encoded in."""
        return self.precision.encoding(self._device)

    def _remembered_hash(self, files: list[Stamp]) -> str | None:
        if not (Path(self.cache) / INDEX).exists():
            return None
        known, _ = read_index(Path(self.cache))
        return known.weights if known.weights_files == files else None

    def _encode(self, store: Store, songs: "list[Checked]") -> list[CachedSong]:
        """Encode songs; the failing ones are named together, the others stay. Raises `Failed` as `on_error` says."""
        if not songs:
            return []
        from acetrain.acestep.load import check_encoders
        from acetrain.data.encode import Encoder
        from acetrain.tracking.counted import counted

        check_encoders(self.model)
        device = self._device
        encoder = Encoder(self.model, self._encoding.dtype, device, store, self.max_duration, self.crop_seconds)
        encoded = encoder.encode(songs, counted)
        peaks = ", ".join(f"{name} {peak / 2**30:.2f} GiB" for name, peak in encoded.peaks.items())
        print(f"peak memory ({device.type}): {peaks}")
        for line in report(encoded.notes):
            print(f"warning, cut off:{line}", file=sys.stderr)
        for line in report(encoded.levels):
            print(f"warning, loudness:{line}", file=sys.stderr)
        if encoded.faults and self.on_error is OnError.stop:
            raise Failed(self._told(encoded.faults))
        self._say_left_out(encoded.faults)
        return encoded.songs

    def _say_left_out(self, faults: list[Fault]) -> None:
        for line in report(faults):
            print(f"left out:{line}", file=sys.stderr)

    def _summarise(self, done: list[CachedSong], new: list[CachedSong], faults: list[Fault]) -> None:
        self._say_left_out(faults)
        seconds = sum(song.seconds for song in done + new)
        print(f"cache: {self.cache} ({len(new)} songs encoded, {len(done)} there already)")
        size = sum((Path(self.cache) / song.file).stat().st_size for song in done + new)
        print(f"songs: {len(done + new)} ({seconds:.1f} s), {size / 1e6:.1f} MB")
        crop = f" data.crop_seconds={self.crop_seconds:g}" if self.crop_seconds else ""
        print(f"next: acetrain train {self.model.arguments()} cache={shlex.quote(self.cache)}{crop}")
