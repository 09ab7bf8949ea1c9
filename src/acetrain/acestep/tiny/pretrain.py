"""Make the tiny base from nothing: `python -m acetrain.acestep.tiny.pretrain --out DIR`."""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AceStepPipeline
from rich.console import Console
from rich.progress import Progress, TextColumn

from acetrain.acestep.tiny import architecture, autoencoder, denoiser
from acetrain.acestep.tiny.songs import FRAME_RATE, SEEN, Example, examples


@dataclass(frozen=True)
class Recipe:
    """How much of everything; the defaults made the weights that ship."""

    seed: int = 0
    songs: int = 75
    """Composed songs of each style."""
    shortest: float = 4.0
    longest: float = 20.0
    """Lengths of the songs in seconds."""
    autoencoder_songs: int = 75
    """Songs of each style that the autoencoder is trained on."""
    autoencoder_steps: int = 1000
    autoencoder_batch: int = 5
    flow_steps: int = 1600
    flow_batch: int = 8
    flow_rate: float = 2e-3
    """Peak learning rate of the flow."""
    start: str = ""
    """Checkpoint to go on from: its autoencoder is kept, its flow is trained further. Empty for from nothing."""


def pretrain(recipe: Recipe) -> AceStepPipeline:
    """The trained pipeline in fp32; the same for the same recipe, machine and number of threads."""
    songs = _songs(recipe)
    pipeline = _continued(recipe) if recipe.start else _with_autoencoder(recipe, songs)
    latents = [denoiser.encode(pipeline, song) for song in songs]
    trained = denoiser.Denoiser(pipeline)
    steps = recipe.flow_steps
    losses = denoiser.train(trained, latents, steps, recipe.flow_batch, recipe.flow_rate, recipe.seed)
    _watch("Flow", steps, losses)
    return pipeline


def _continued(recipe: Recipe) -> AceStepPipeline:
    pipeline = AceStepPipeline.from_pretrained(recipe.start, dtype=torch.float32)
    assert isinstance(pipeline, AceStepPipeline)
    return pipeline


def _with_autoencoder(recipe: Recipe, songs: Sequence[Example]) -> AceStepPipeline:
    pipeline = architecture.build(recipe.seed)
    pipeline.register_modules(tokenizer=architecture.tokenizer(prompts(pipeline, songs)))
    heard = [song.audio for song in songs[: recipe.autoencoder_songs * len(SEEN)]]
    steps = recipe.autoencoder_steps
    _watch("Autoencoder", steps, autoencoder.train(pipeline.vae, heard, steps, recipe.autoencoder_batch, recipe.seed))
    silence = autoencoder.silence(pipeline.vae, pipeline.condition_encoder.silence_latent.shape[1])
    pipeline.condition_encoder.silence_latent.copy_(silence)
    return pipeline


def prompts(pipeline: AceStepPipeline, songs: Iterable[Example]) -> list[str]:
    """The texts that the pipeline makes of the songs: what the tokenizer learns from."""
    texts: list[str] = []
    for example in songs:
        song = example.song
        texts += pipeline._format_prompt(
            prompt=song.caption,
            lyrics=song.lyrics,
            vocal_language=song.language,
            audio_duration=example.frames / FRAME_RATE,
            bpm=song.bpm,
            keyscale=song.keyscale,
            timesignature=song.timesignature,
        )
    return texts


def save(pipeline: AceStepPipeline, folder: Path) -> None:
    """Write the pipeline to `folder` in the diffusers layout, tensors in fp16; the pipeline becomes fp16.

    Where a pipeline was loaded from is not written down.
    """
    pipeline.to(torch.float16).save_pretrained(folder)
    for file in folder.rglob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _songs(recipe: Recipe) -> list[Example]:
    """The styles' songs in turn, so that the first n of each come first."""
    lengths = recipe.shortest, recipe.longest
    by_style = [list(examples(recipe.seed, "train", style, recipe.songs, *lengths)) for style in SEEN]
    return [song for round_ in zip(*by_style, strict=True) for song in round_]


def _watch(name: str, steps: int, losses: Iterable[float]) -> None:
    """Draw a progress bar with a running mean of the losses."""
    columns = [*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.3f}")]
    console = Console()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=steps, loss=float("nan"))
        mean = None
        for done, loss in enumerate(losses, start=1):
            mean = loss if mean is None else 0.98 * mean + 0.02 * loss
            progress.update(task, advance=1, loss=mean)
            if done % 100 == 0 and not progress.console.is_terminal:
                print(f"{name} {done}/{steps}: loss {mean:.3f}", flush=True)


def main() -> None:
    """Pretrain and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    torch.set_num_threads(1)
    save(pretrain(Recipe(**arguments)), out)


if __name__ == "__main__":
    main()
