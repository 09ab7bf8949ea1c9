"""Folders of tensors as the official trainer and Side-Step write them, of random songs for the tiny model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fabricate import CHANNELS, WIDTH
from torch import Tensor

Sample = dict[str, Any]


def sample(frames: int, tokens: int, pads: int = 0, seed: int = 0, dtype: torch.dtype = torch.float32) -> Sample:
    """What the trainers' files share: `frames` latents, all valid, and `tokens` rows, the last `pads` of them not."""
    draw = torch.Generator().manual_seed(seed)
    valid = torch.arange(tokens) < tokens - pads
    return {
        "target_latents": torch.randn(frames, CHANNELS, generator=draw).to(dtype),
        "attention_mask": torch.ones(frames, dtype=dtype),
        "encoder_hidden_states": torch.randn(tokens, WIDTH, generator=draw).to(dtype),
        "encoder_attention_mask": valid,
        "context_latents": torch.cat([torch.zeros(frames, CHANNELS), torch.ones(frames, CHANNELS)], dim=1).to(dtype),
        "metadata": {
            "audio_path": f"/music/song{seed}.wav",
            "filename": f"song{seed}.wav",
            "caption": "slow jazz",
            "lyrics": "[Verse]\n바다",
            "duration": frames // 25,
            "bpm": 97,
            "keyscale": "C major",
            "timesignature": "4",
            "is_instrumental": False,
        },
    }


def official(folder: Path, songs: int, dtype: torch.dtype = torch.bfloat16, where: str = "") -> dict[str, Sample]:
    """Write a folder as the official trainer does: files named by id, rows padded to one length, and a manifest.

    `where` is the folder that the manifest names, by default the true one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for index in range(songs):
        made = sample(60 + 37 * index % 91, 96, 40 + index, seed=index, dtype=dtype)
        made["metadata"] |= {"language": "ko", "preprocess_mode": "lora"}
        written[f"{index:02}ab12cd.pt"] = made
    save(folder, written)
    manifest(folder, [f"{where or folder}/{name}" for name in written])
    return written


def side_step(
    folder: Path, songs: int, dtype: torch.dtype = torch.bfloat16, variant: str = "tiny"
) -> dict[str, Sample]:
    """Write a folder as Side-Step does: files named by song, no manifest, and some with a condition of the genre."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for index in range(songs):
        made = sample(60 + 37 * index % 91, 80, 30, seed=index, dtype=dtype)
        made["encoder_attention_mask"] = made["encoder_attention_mask"].long()
        made["metadata"] |= {"genre": "jazz", "custom_tag": "", "prompt_override": None, "repeat": 1}
        if index % 2:
            made["encoder_hidden_states_genre"] = made["encoder_hidden_states"] + 1
            made["encoder_attention_mask_genre"] = made["encoder_attention_mask"]
        written[f"song{index}.pt"] = made
    save(folder, written)
    (folder / "preprocess_meta.json").write_text(json.dumps({"model_variant": variant, "total": songs}))
    return written


def save(folder: Path, samples: Mapping[str, object]) -> None:
    for name, made in samples.items():
        torch.save(made, folder / name)


def manifest(folder: Path, paths: Sequence[str], **changes: Any) -> None:
    content = {"metadata": {"name": "album"}, "samples": list(paths), "num_samples": len(paths)} | changes
    (folder / "manifest.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def trimmed(made: Sample) -> tuple[Tensor, Tensor]:
    """What is trained on, by counting what the masks keep."""
    frames, tokens = int(made["attention_mask"].sum()), int(made["encoder_attention_mask"].sum())
    return made["target_latents"][:frames].float(), made["encoder_hidden_states"][:tokens].float()
