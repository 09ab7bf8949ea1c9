"""Songs to latents and conditions, in three passes over them: one model at a time is loaded, used and let go."""

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AceStepPipeline, AutoencoderOobleck
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
from acetrain.data.cache import CachedSong
from acetrain.data.check import Checked
from acetrain.data.faults import Fault
from acetrain.data.stage import Stage
from acetrain.data.store import Store, path_of
from acetrain.errors import Refused
from acetrain.keyed import generator
from acetrain.training.device import peak_memory, reset_peak_memory

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

    def __post_init__(self) -> None:
        self.stage = Stage(self.store.folder)

    def encode(self, songs: Sequence[Checked], counted: Counted) -> Encoded:
        """Encode songs one by one; each file of the cache is written as soon as it is ready."""
        made = Encoded()
        left = self._pass("latents", list(songs), self._autoencoder, self._latents, made, counted)
        left = self._pass("prompts", left, self._text_encoder, self._prompt, made, counted)
        self._pass("conditions", left, self._condition_encoder, self._condition, made, counted)
        self.stage.tidy()
        return made

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
        return heard if name == "latents" else [*heard, checked.song.prompt.digest()]

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
        samples = torch.from_numpy(audio.read(song.audio, fingerprint.sample_rate, self.crop))
        latents = encode_latents(vae, samples, generator(fingerprint.seed, "posterior", song.name))
        cropped = self.crop is not None and samples.shape[1] >= round(self.crop * fingerprint.sample_rate)
        self._keep("latents", checked, {"latents": latents, "cropped": torch.tensor(cropped)})

    def _text_encoder(self) -> AceStepPipeline:
        return load_text_pipeline(self.model, self.dtype, self.device)

    def _prompt(self, pipeline: AceStepPipeline, checked: Checked, made: Encoded) -> None:
        seconds = self._seconds(self.stage.read(checked.song.name, "latents")["latents"])
        states = encode_prompt(pipeline, checked.song.prompt, seconds)
        self._keep("prompts", checked, states._asdict())
        told = overlong(pipeline, checked.song.prompt, seconds)
        made.notes.extend(Fault(checked.song.name, text) for text in told)

    def _condition_encoder(self) -> Any:
        return load_condition_encoder(self.model, self.dtype, self.device)

    def _condition(self, encoder: Any, checked: Checked, made: Encoded) -> None:
        song, heard = checked.song, self.stage.read(checked.song.name, "latents")
        states = PromptStates(**self.stage.read(checked.song.name, "prompts"))
        condition = encode_condition(encoder, states, self.store.fingerprint.frame_rate)
        if not condition.isfinite().all():
            raise Refused("its condition came out non-finite; try precision=fp32")
        row = CachedSong(
            name=song.name,
            file=path_of(song.name),
            frames=len(heard["latents"]),
            tokens=len(condition),
            seconds=self._seconds(heard["latents"]),
            audio=checked.sha256,
            text=song.prompt.digest(),
            crop=(self.crop or 0.0) if heard["cropped"] else 0.0,
            repeat=song.repeat,
        )
        self.store.add(row, heard["latents"], condition)
        self.stage.drop(song.name)
        made.songs.append(row)

    def _seconds(self, latents: Tensor) -> float:
        return len(latents) / self.store.fingerprint.frame_rate
