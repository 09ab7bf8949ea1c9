"""What the tiny base can do, as tables: `python -m acetrain.acestep.tiny.measure`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AceStepPipeline, AutoencoderOobleck

from acetrain.acestep.model import EMBEDDED
from acetrain.acestep.tiny.autoencoder import decode, log_spectral_distance, posterior, scale_invariant_ratio
from acetrain.acestep.tiny.denoiser import Denoiser, encode, held_out_loss
from acetrain.acestep.tiny.songs import Example, examples
from acetrain.data.synthesis.names import NAMES


@torch.no_grad()
def reconstruction(vae: AutoencoderOobleck, songs: Sequence[Example]) -> tuple[float, float]:
    """Mean SI-SDR in dB and mean log-spectral distance of songs passed through the autoencoder (posterior means)."""
    ratios, distances = [], []
    for song in songs:
        audio = song.audio.unsqueeze(0)
        decoded = decode(vae, posterior(vae, audio).mode())
        ratios.append(scale_invariant_ratio(decoded[0], song.audio))
        distances.append(log_spectral_distance(decoded, audio).item())
    return sum(ratios) / len(ratios), sum(distances) / len(distances)


def table(pipeline: AceStepPipeline, count: int) -> str:
    """A Markdown table: reconstruction and held-out flow loss of each style over `count` held-out songs."""
    denoiser = Denoiser(pipeline)
    rows = ["| style | SI-SDR, dB | log-spectral distance | flow loss |", "| --- | --- | --- | --- |"]
    for style in NAMES:
        songs = list(examples(0, "held-out", style, count, 4, 20))
        ratio, distance = reconstruction(pipeline.vae, songs)
        loss = held_out_loss(denoiser, [encode(pipeline, song) for song in songs], 0)
        rows.append(f"| {style} | {ratio:.2f} | {distance:.3f} | {loss:.3f} |")
    return "\n".join(rows)


def sizes(pipeline: AceStepPipeline, folder: Path) -> str:
    """A Markdown table: parameters and bytes of each component, and the sum of all files."""
    rows = ["| component | parameters | bytes |", "| --- | --- | --- |"]
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        component = getattr(pipeline, name)
        parameters = sum(p.numel() for p in component.parameters()) if isinstance(component, torch.nn.Module) else 0
        rows.append(f"| {name} | {parameters:,} | {_bytes(folder / name):,} |")
    return "\n".join([*rows, f"| all files | | {_bytes(folder):,} |"])


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Print both tables for a checkpoint folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=EMBEDDED)
    parser.add_argument("--songs", type=int, default=8, help="held-out songs of each style")
    arguments = parser.parse_args()
    pipeline = AceStepPipeline.from_pretrained(arguments.weights, dtype=torch.float32)
    print(sizes(pipeline, arguments.weights), table(pipeline, arguments.songs), sep="\n\n")


if __name__ == "__main__":
    main()
