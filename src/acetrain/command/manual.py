"""What `--help` prints."""

from collections.abc import Mapping, Sequence

from acetrain.command.arguments import FLAGS
from acetrain.command.describe import job_page, table
from acetrain.composition.docs import summary
from acetrain.composition.job import Composer
from acetrain.composition.overrides import Override
from acetrain.schemas import JOBS

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "synthesize": ("out_dir=songs", "out_dir=songs count=12 style=piano seed=1"),
    "scan": ("songs=songs", "songs=songs prompts.tag=mylofi24 output=songs/dataset.json", "songs=songs --json"),
    "preprocess": ("model=tiny songs=songs cache=cache", "songs=dataset.json cache=cache on_error=skip"),
    "adopt": ("model=turbo tensors=preprocessed_tensors cache=cache",),
    "train": (
        "cache=cache max_steps=500",
        "cache=cache adapter.rank=16 schedule=cosine optimizer.lr=2e-4",
        "cache=cache experiment=short_run preset=vram_16gb",
        "cache=cache -m adapter.rank=8,16,32",
        "cache=cache sweep=rank dry_run=true",
    ),
    "generate": (
        'adapter_path=RUN/adapter prompt="slow jazz, brushes" duration=30 output=jazz.wav',
        "prompt=@prompt.txt lyrics=@lyrics.txt output=song.flac",
    ),
    "export": (
        "adapter_path=RUN/adapter format=comfyui output=song.safetensors",
        "adapter_path=RUN/adapter format=merged model=turbo output=checkpoints/acestep-v15-turbo-mine dtype=bf16",
    ),
    "combine": (
        "adapter_paths=[a/adapter,b.safetensors] weights=[0.7,0.5] output=both",
        "model=turbo checkpoint=checkpoints/my-fine-tune rank=64 output=extracted",
    ),
    "inspect": ("RUN/adapter", "lora.safetensors", "lora.safetensors --json"),
    "sweep": ("status", "status rank", "results rank", "clean rank delete=true"),
    "explain": ("", "adapter", "adapter=lora", "train"),
}


def usage() -> str:
    """What the program does, its jobs and its flags."""
    lines = ["usage: acetrain JOB [key=value ...] [group=option ...]", "", "jobs (acetrain JOB --help says more)"]
    lines += table({job: summary(schema) for job, schema in JOBS.items()})
    lines += ["", "flags", *table(FLAGS)]
    return "\n".join(lines)


def manual(composer: Composer, overrides: Sequence[Override]) -> str:
    """A job's keys and groups as `overrides` leave them, with examples."""
    job = composer.job
    lines = [f"usage: acetrain {job} [key=value ...] [group=option ...]", ""]
    lines += [job_page(composer.compose(overrides), composer.sources)]
    lines += [
        "",
        "text and paths stand for themselves, commas, quotes and brackets included; with -m a comma separates values",
    ]
    lines += ["several runs: -m, or sweep=NAME; how they are run: acetrain explain multirun"]
    lines += ["", "examples", *(f"  acetrain {job} {example}".rstrip() for example in EXAMPLES.get(job, ()))]
    return "\n".join(lines)
