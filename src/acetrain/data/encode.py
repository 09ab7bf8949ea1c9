"""One pass over songs each: checking their audio, and encoding them into a cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AceStepPipeline

from acetrain.acestep.conditions import encode_condition, encode_latents, overlong
from acetrain.data import audio
from acetrain.data.cache import CachedSong
from acetrain.data.faults import Fault
from acetrain.data.songs import Scan, Song
from acetrain.data.store import Store, path_of, was_decoded
from acetrain.errors import Refused
from acetrain.keyed import generator


class Checked(NamedTuple):
    """A song whose audio can be used, and the SHA-256 of its file."""

    song: Song
    sha256: str


def check_audio(
    found: Scan, shortest: float, cache: Path, crop: float | None, advance: Callable[[], None]
) -> tuple[list[Checked], list[Fault]]:
    """The songs that can be used, and all that is wrong with the others.

    Every song is decoded once, up to `crop` seconds, but for those that `cache` holds, of the same audio; `shortest`
    in seconds.
    """
    songs = {song.name: song for song in found.songs}
    checked, faults = [], list(found.faults)
    for name, file in [(song.name, song.audio) for song in found.songs] + found.unfit:
        try:
            sha256 = _fit(name, file, shortest, cache, crop)
            if name in songs:
                checked.append(Checked(songs[name], sha256))
        except Refused as refusal:
            faults.append(Fault(name, str(refusal)))
        advance()
    return checked, faults


def _fit(name: str, file: Path, shortest: float, cache: Path, crop: float | None) -> str:
    """SHA-256 of a song that can be used. Raises `Refused` for any other."""
    if (cache / path_of(name)).exists():
        sha256 = audio.sha256_of(file)
        if was_decoded(cache, name, sha256, crop):
            return sha256
    return audio.inspect(file, shortest, crop=crop).sha256


class Encoded(NamedTuple):
    """What came of encoding songs."""

    songs: list[CachedSong]
    faults: list[Fault]
    """Songs that could not be encoded."""
    notes: list[Fault]
    """Songs whose text is longer than what the model reads."""


def encode_songs(
    pipeline: AceStepPipeline,
    songs: Sequence[Checked],
    store: Store,
    crop: float | None,
    advance: Callable[[], None],
) -> Encoded:
    """Encode songs, up to `crop` seconds, into the cache one by one; each file is written as soon as it is ready."""
    encoded = Encoded([], [], [])
    for checked in songs:
        try:
            song = _encode(pipeline, checked, store, crop)
        except Refused as refusal:
            encoded.faults.append(Fault(checked.song.name, str(refusal)))
        else:
            encoded.songs.append(song)
            what = overlong(pipeline, checked.song.prompt, song.seconds)
            encoded.notes.extend(Fault(song.name, text) for text in what)
        advance()
    return encoded


def _encode(pipeline: AceStepPipeline, checked: Checked, store: Store, crop: float | None) -> CachedSong:
    song, fingerprint = checked.song, store.fingerprint
    samples = torch.from_numpy(audio.read(song.audio, fingerprint.sample_rate, crop))
    latents = encode_latents(pipeline.vae, samples, generator(fingerprint.seed, "posterior", song.name))
    seconds = len(latents) / fingerprint.frame_rate
    condition = encode_condition(pipeline, song.prompt, seconds)
    for what, tensor in (("latents", latents), ("condition", condition)):
        if not tensor.isfinite().all():
            raise Refused(f"its {what} came out non-finite; try precision=fp32")
    row = CachedSong(
        name=song.name,
        file=path_of(song.name),
        frames=len(latents),
        tokens=len(condition),
        seconds=seconds,
        audio=checked.sha256,
        text=song.prompt.digest(),
        crop=crop if crop is not None and samples.shape[1] >= round(crop * fingerprint.sample_rate) else 0.0,
        repeat=song.repeat,
    )
    store.add(row, latents, condition)
    return row
