"""Songs to latents and conditions, in three passes over them: one model at a time is loaded, used and let go."""

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AceStepPipeline, AutoencoderOobleck
from jaxtyping import Float32
from torch import Tensor

from acetrain.acestep.conditions import (
    PromptStates,
    encode_condition,
    encode_latents,
    encode_prompt,
    load_text_pipeline,
    overlong,
)
from acetrain.acestep.load import load_component, load_condition_encoder
from acetrain.acestep.model import Model
from acetrain.data import audio
from acetrain.data.check import Checked
from acetrain.data.faults import Fault
from acetrain.data.gain import amplified, gain_to
from acetrain.data.index import CachedSong
from acetrain.data.script import Encodings
from acetrain.data.songs import Song
from acetrain.data.stage import Stage
from acetrain.data.store import Store, path_of
from acetrain.data.variants import Variants
from acetrain.errors import Refused
from acetrain.keyed import generator
from acetrain.training.device import peak_memory, reset_peak_memory

Stereo = Float32[np.ndarray, "2 sample"]
Counted = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Shows the progress of a labelled number of like steps."""


@dataclass
class Encoded:
    """What came of encoding songs."""

    songs: list[CachedSong] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """Songs that could not be encoded."""
    notes: list[Fault] = field(default_factory=list)
    """Songs whose text is longer than what the model reads."""
    levels: list[Fault] = field(default_factory=list)
    """Songs that did not come to the loudness asked for."""
    peaks: dict[str, int] = field(default_factory=dict)
    """Pass -> peak of the memory in bytes."""


@dataclass
class Encoder:
    """Encodes songs into a cache; what a pass has made of a song is kept until the last pass is done with it."""

    model: Model
    dtype: torch.dtype
    device: torch.device
    store: Store
    crop: float | None
    """Seconds of a song that are encoded; None for all."""
    window: float | None
    """Seconds of a song that a visit may take; None where visits take all of it."""

    def __post_init__(self) -> None:
        self.stage = Stage(self.store.folder)

    def encode(self, songs: Sequence[Checked], counted: Counted) -> Encoded:
        """Encode songs one by one; each file of the cache is written as soon as it is ready."""
        made = Encoded()
        self._recall(songs)
        left = self._pass("latents", list(songs), self._autoencoder, self._latents, made, counted)
        left = self._pass("prompts", left, self._text_encoder, self._prompt, made, counted)
        self._pass("conditions", left, self._condition_encoder, self._condition, made, counted)
        self.stage.tidy()
        return made

    def _recall(self, songs: Sequence[Checked]) -> None:
        """Take up the latents of songs that the cache holds with other words."""
        for song in songs:
            row = self.store.heard(song.song.name, song.sha256, self.crop)
            if row and not self._staged("latents", song):
                tensors = {"latents": self.store.latents(row), "cropped": torch.tensor(bool(row.crop))}
                self._keep("latents", song, tensors)

    def _pass(
        self,
        name: str,
        songs: Sequence[Checked],
        load: Callable[[], Any],
        encode: Callable[[Any, Checked, Encoded], None],
        made: Encoded,
        counted: Counted,
    ) -> list[Checked]:
        """One model over all songs; those that did not fail."""
        reset_peak_memory(self.device)
        done: list[Checked] = []
        model = load() if not all(self._staged(name, song) for song in songs) else None
        with counted(name, len(songs)) as advance:
            for song in songs:
                try:
                    if not self._staged(name, song):
                        encode(model, song, made)
                    done.append(song)
                except Refused as refusal:
                    made.faults.append(Fault(song.song.name, str(refusal)))
                    self.stage.drop(song.song.name)
                advance()
        made.peaks[name] = peak_memory(self.device)
        del model
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return done

    def _made_of(self, name: str, checked: Checked) -> list[Any]:
        heard = [self.store.fingerprint.digest(), checked.sha256, self.crop]
        return heard if name == "latents" else [*heard, checked.song.script(self.window).digest(), "numbered"]

    def _staged(self, name: str, checked: Checked) -> bool:
        return self.stage.holds(checked.song.name, name, self._made_of(name, checked))

    def _keep(self, name: str, checked: Checked, tensors: dict[str, Tensor]) -> None:
        for what, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise Refused(f"its {what} came out non-finite; try precision=fp32")
        self.stage.write(checked.song.name, name, self._made_of(name, checked), tensors)

    def _autoencoder(self) -> AutoencoderOobleck:
        return load_component(self.model.checkpoint, AutoencoderOobleck, "vae", self.dtype, self.device)

    def _latents(self, vae: AutoencoderOobleck, checked: Checked, made: Encoded) -> None:
        song, fingerprint = checked.song, self.store.fingerprint
        samples = torch.from_numpy(
            self._leveled(audio.read(song.audio, fingerprint.sample_rate, self.crop), song, made)
        )
        latents = encode_latents(vae, samples, generator(fingerprint.seed, "posterior", song.name))
        cropped = self.crop is not None and samples.shape[1] >= round(self.crop * fingerprint.sample_rate)
        self._keep("latents", checked, {"latents": latents, "cropped": torch.tensor(cropped)})

    def _leveled(self, samples: Stereo, song: Song, made: Encoded) -> Stereo:
        """The samples at the loudness that all songs are brought to, if they are."""
        fingerprint = self.store.fingerprint
        if fingerprint.loudness is None:
            return samples
        gain = gain_to(fingerprint.loudness, samples, fingerprint.sample_rate)
        if gain.told:
            made.levels.append(Fault(song.name, gain.told))
        return amplified(samples, gain.decibels)

    def _text_encoder(self) -> AceStepPipeline:
        return load_text_pipeline(self.model, self.dtype, self.device)

    def _prompt(self, pipeline: AceStepPipeline, checked: Checked, made: Encoded) -> None:
        latents = self.stage.read(checked.song.name, "latents")["latents"]
        parts: dict[str, Tensor] = {}
        for number, (prompt, seconds) in enumerate(self._encodings(checked, latents).prompts(checked.song.prompt)):
            states = encode_prompt(pipeline, prompt, seconds)
            parts |= {f"{what}.{number}": tensor for what, tensor in states._asdict().items()}
        self._keep("prompts", checked, parts)
        told = overlong(pipeline, checked.song.prompt, self._seconds(latents))
        made.notes.extend(Fault(checked.song.name, text) for text in told)

    def _encodings(self, checked: Checked, latents: Tensor) -> Encodings:
        return checked.song.script(self.window).encodings(len(latents), self.store.fingerprint.frame_rate)

    def _condition_encoder(self) -> Any:
        return load_condition_encoder(self.model, self.dtype, self.device)

    def _condition(self, encoder: Any, checked: Checked, made: Encoded) -> None:
        song, heard = checked.song, self.stage.read(checked.song.name, "latents")
        encodings = self._encodings(checked, heard["latents"])
        lyrics, texts = self._parts(encoder, song.name, encodings)
        row = CachedSong(
            name=song.name,
            file=path_of(song.name),
            frames=len(heard["latents"]),
            tokens=len(lyrics[0]) + len(texts[0]),
            seconds=self._seconds(heard["latents"]),
            audio=checked.sha256,
            text=song.script(self.window).digest(),
            crop=(self.crop or 0.0) if heard["cropped"] else 0.0,
            repeat=song.repeat,
            genre_share=song.genre_share,
            variants=_variants(encodings, lyrics, texts),
        )
        parts = {f"lyrics.{number}": part for number, part in enumerate(lyrics) if number}
        parts |= {f"text.{number}": part for number, part in enumerate(texts) if number}
        self.store.add(row, heard["latents"], torch.cat([lyrics[0], texts[0]]), parts)
        self.stage.drop(song.name)
        made.songs.append(row)

    def _parts(self, encoder: Any, name: str, encodings: Encodings) -> tuple[list[Tensor], list[Tensor]]:
        """The rows of each lyrics, with the timbre's, and those of each text; text rows come last in a condition."""
        held = self.stage.read(name, "prompts")
        lyrics, texts = [], []
        for number in range(max(len(encodings.lyrics), len(encodings.texts))):
            states = PromptStates(**{what: held[f"{what}.{number}"] for what in PromptStates._fields})
            condition = encode_condition(encoder, states, self.store.fingerprint.frame_rate)
            if not condition.isfinite().all():
                raise Refused("its condition came out non-finite; try precision=fp32")
            rows = int(states.text_mask.sum())
            lyrics.append(condition[:-rows])
            texts.append(condition[-rows:])
        return lyrics[: len(encodings.lyrics)], texts[: len(encodings.texts)]

    def _seconds(self, latents: Tensor) -> float:
        return len(latents) / self.store.fingerprint.frame_rate


def _variants(encodings: Encodings, lyrics: Sequence[Tensor], texts: Sequence[Tensor]) -> Variants | None:
    """What is drawn from; None where there is nothing but the condition as written."""
    if len(lyrics) == len(texts) == 1:
        return None
    rows = [len(part) for part in texts[1:]], [len(part) for part in lyrics[1:]]
    return Variants(len(lyrics[0]), *rows, encodings.whole, encodings.windows)
