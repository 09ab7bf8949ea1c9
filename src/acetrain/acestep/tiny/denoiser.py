"""Pretraining of the tiny DiT with its text and condition encoders: flow matching under the pipeline's own prompts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import AceStepPipeline
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acetrain.acestep.dit import MaskedDiT, valid_rows
from acetrain.acestep.tiny.autoencoder import posterior
from acetrain.acestep.tiny.average import Average
from acetrain.acestep.tiny.songs import FRAME, FRAME_RATE, Example
from acetrain.data.synthesis.song import Song
from acetrain.flow.densities import larger_logit_normal
from acetrain.flow.distance import song_mean
from acetrain.flow.path import interpolate, target

_DROP = 0.15
"""Share of songs whose condition is replaced by the null condition."""
_BARE = 0.25
"""Share of prompts without tempo, meter and key, so that the model knows `N/A` too."""
_GRID = 8
_LONGEST = 400
"""Frames of a song that are trained on, from its start: the first beat is where it belongs."""


@dataclass
class Latents:
    """A song as the denoiser sees it: the posterior of its latents, [frame, channel]."""

    song: Song
    mean: Float[Tensor, "frame channel"]
    spread: Float[Tensor, "frame channel"]

    @property
    def seconds(self) -> float:
        """Length of the latents."""
        return len(self.mean) / FRAME_RATE

    def sample(self, draws: torch.Generator) -> Float[Tensor, "frame channel"]:
        """A draw of the posterior."""
        return self.mean + self.spread * torch.randn(self.mean.shape, generator=draws)


class Denoiser:
    """What of the pipeline is trained here, and how a batch of songs passes through it."""

    def __init__(self, pipeline: AceStepPipeline) -> None:
        self.pipeline = pipeline
        dit = MaskedDiT.from_config(pipeline.transformer.config)
        assert isinstance(dit, MaskedDiT)
        self.dit = dit
        self.dit.load_state_dict(pipeline.transformer.state_dict())
        self.encoder = pipeline.condition_encoder
        self.trained = torch.nn.ModuleList([self.dit, self.encoder, pipeline.text_encoder])

    def finish(self) -> None:
        """Hand the trained DiT to the pipeline."""
        self.pipeline.transformer.load_state_dict(self.dit.state_dict())
        self.trained.eval()

    def losses(
        self,
        data: Sequence[Float[Tensor, "_ channel"]],
        noise: Sequence[Float[Tensor, "_ channel"]],
        t: Float[Tensor, " song"],
        conditions: Sequence[Float[Tensor, "_ width"]],
    ) -> Float[Tensor, " song"]:
        """Each song's mean squared error of the velocity over its own frames."""
        frames = [len(song) for song in data]
        x_0, x_1 = pad_sequence(list(data), batch_first=True), pad_sequence(list(noise), batch_first=True)
        tokens = [len(condition) for condition in conditions]
        source = self.encoder.silence_latent[:, : max(frames)].expand(len(data), -1, -1)
        context = torch.cat([source, torch.ones_like(source)], dim=-1)
        condition = pad_sequence(list(conditions), batch_first=True)
        velocity = self.dit.velocity(interpolate(x_0, x_1, t), t, condition, context, frames, tokens)
        valid = valid_rows(frames, max(frames), x_0.device)
        return song_mean((velocity - target(x_0, x_1)) ** 2, valid)

    def conditions(self, songs: Sequence[Latents], bare: Sequence[bool]) -> list[Float[Tensor, "_ width"]]:
        """The pipeline's packed condition of each song: lyrics, timbre of silence, text.

        `bare` leaves out the metadata. A batch of unequal prompts in one pass: what `encode_prompt` and the condition
        encoder give for each song alone.
        """
        texts, lyrics = zip(*(self._tokens(song, plain) for song, plain in zip(songs, bare, strict=True)), strict=True)
        hidden = self.pipeline.text_encoder(input_ids=pad_sequence(list(texts), batch_first=True)).last_hidden_state
        hidden = self.encoder.text_projector(hidden)
        words = self.pipeline.text_encoder.get_input_embeddings()(pad_sequence(list(lyrics), batch_first=True))
        counts = [len(tokens) for tokens in lyrics]
        sung = self.encoder.lyric_encoder(words, valid_rows(counts, words.shape[1], words.device))
        timbre = self._timbre()
        return [torch.cat([sung[i, : len(lyrics[i])], timbre, hidden[i, : len(texts[i])]]) for i in range(len(songs))]

    def _tokens(self, latents: Latents, bare: bool) -> tuple[Tensor, Tensor]:
        song = latents.song
        metadata = {} if bare else {"bpm": song.bpm, "keyscale": song.keyscale, "timesignature": song.timesignature}
        formatted = self.pipeline._format_prompt(
            prompt=song.caption,
            lyrics=song.lyrics,
            vocal_language=song.language,
            audio_duration=latents.seconds,
            **metadata,
        )
        text, lyrics = (torch.tensor(self.pipeline.tokenizer(part).input_ids) for part in formatted)
        return text, lyrics

    @torch.no_grad()
    def _timbre(self) -> Float[Tensor, "1 width"]:
        """The timbre row: a constant, since the reference is always silence; its encoder stays as initialised."""
        reference = self.encoder.silence_latent[:, : math.ceil(30 * self.pipeline.latents_per_second)]
        return self.encoder.timbre_encoder(reference, torch.zeros(1, dtype=torch.long))[0][0]


@torch.no_grad()
def encode(pipeline: AceStepPipeline, example: Example) -> Latents:
    """The posterior of a song's latents, its first eight seconds where it is longer."""
    encoded = posterior(pipeline.vae, example.audio[:, : _LONGEST * FRAME].unsqueeze(0))
    return Latents(example.song, encoded.mean[0].T.contiguous(), encoded.std[0].T.contiguous())


def train(
    denoiser: Denoiser, songs: Sequence[Latents], steps: int, batch: int, peak: float, seed: int
) -> Iterator[float]:
    """Train in place, yielding each step's loss; the averaged weights are in the pipeline at the end.

    `peak` is the highest learning rate.
    """
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(denoiser.trained.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    average = Average(denoiser.trained, 0.997)
    denoiser.trained.train()
    for step, chosen in enumerate(_batches(songs, steps, batch, draws)):
        for group in optimizer.param_groups:
            group["lr"] = (
                peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * math.cos(0.5 * math.pi * step / steps) ** 2)
            )
        loss = _batch_loss(denoiser, [songs[i] for i in chosen], draws)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.trained.parameters(), 1.0)
        optimizer.step()
        average.update()
        yield loss.item()
    average.apply()
    denoiser.finish()


@torch.no_grad()
def held_out_loss(denoiser: Denoiser, songs: Sequence[Latents], seed: int) -> float:
    """Mean loss over songs and a fixed grid of quantiles of the model's own timesteps, noise fixed for each."""
    draws = torch.Generator().manual_seed(seed)
    grid = larger_logit_normal((torch.arange(_GRID) + 0.5) / _GRID, -0.4, 1.0)
    losses = []
    for song in songs:
        data = song.sample(draws)
        condition = denoiser.conditions([song], [False]) * _GRID
        noise = [torch.randn(data.shape, generator=draws) for _ in range(_GRID)]
        losses.append(denoiser.losses([data] * _GRID, noise, grid, condition).mean().item())
    return sum(losses) / len(losses)


def _batch_loss(denoiser: Denoiser, songs: Sequence[Latents], draws: torch.Generator) -> Tensor:
    count = len(songs)
    data = [song.sample(draws) for song in songs]
    noise = [torch.randn(song.shape, generator=draws) for song in data]
    strata = (torch.randperm(count, generator=draws) + torch.rand(count, generator=draws)) / count
    t = larger_logit_normal(strata.clamp(1e-6, 1 - 1e-6), -0.4, 1.0)
    bare = torch.rand(count, generator=draws) < _BARE
    conditions = denoiser.conditions(songs, bare.tolist())
    null = denoiser.encoder.null_condition_emb[0]
    dropped = (torch.rand(count, generator=draws) < _DROP).tolist()
    kept = [null.expand_as(c) if drop else c for c, drop in zip(conditions, dropped, strict=True)]
    return denoiser.losses(data, noise, t, kept).mean()


def _batches(songs: Sequence[Latents], steps: int, batch: int, draws: torch.Generator) -> Iterator[list[int]]:
    """Batches of songs of similar length, all songs once a pass, in random order."""
    done = 0
    while True:
        jitter = torch.rand(len(songs), generator=draws)
        order = sorted(range(len(songs)), key=lambda i: len(songs[i].mean) * (1 + 0.2 * float(jitter[i])))
        groups = [order[i : i + batch] for i in range(0, len(order) - batch + 1, batch)]
        for group in torch.randperm(len(groups), generator=draws).tolist():
            if done == steps:
                return
            done += 1
            yield groups[group]
