"""Small checkpoints in the layouts people have on disk, with every key the released ones have."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AceStepTransformer1DModel
from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor

from acetrain.acestep.model import EMBEDDED

PREFIXES = {
    "transformer": "decoder",
    "condition_encoder": "encoder",
    "audio_tokenizer": "tokenizer",
    "audio_token_detokenizer": "detokenizer",
}
ATTENTION = {
    ".to_q.": ".q_proj.",
    ".to_k.": ".k_proj.",
    ".to_v.": ".v_proj.",
    ".to_out.0.": ".o_proj.",
    ".norm_q.": ".q_norm.",
    ".norm_k.": ".k_norm.",
}
SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
SAFE = "diffusion_pytorch_model.safetensors"


def official_name(component: str, name: str) -> str:
    """A diffusers tensor name as the official file spells it, written out from the table of renames."""
    if name == "null_condition_emb":
        return name
    if component == "transformer":
        name = name.replace("proj_in_conv.", "proj_in.1.").replace("proj_out_conv.", "proj_out.1.")
    for ours, theirs in ATTENTION.items():
        name = name.replace(ours, theirs)
    return f"{PREFIXES[component]}.{name}"


def uniform(folder: Path) -> Path:
    """The embedded checkpoint with what an official configuration says once said once: one window, and tokenizers, of
    random weights, in the condition encoder's sizes."""
    shutil.copytree(EMBEDDED, folder)
    for component in PREFIXES:
        change_json(folder / component / "config.json", sliding_window=64)
    encoder = json.loads((folder / "condition_encoder" / "config.json").read_text())
    torch.manual_seed(0)
    for kind in (AceStepAudioTokenizer, AceStepAudioTokenDetokenizer):
        quantised = kind is AceStepAudioTokenizer
        tokens = folder / ("audio_tokenizer" if quantised else "audio_token_detokenizer")
        sizes = {key: encoder[key] for key in SIZES} | ({"fsq_dim": encoder["hidden_size"]} if quantised else {})
        change_json(tokens / "config.json", **sizes)
        built = kind.from_config(json.loads((tokens / "config.json").read_text()))
        assert isinstance(built, kind)
        built.save_pretrained(tokens)
    return folder


def like_turbo(folder: Path) -> Path:
    """A turbo of random weights whose DiT is as wide as its condition, as the 2B variants' are."""
    uniform(folder)
    at = folder / "transformer"
    sizes = {key: json.loads((folder / "condition_encoder" / "config.json").read_text())[key] for key in SIZES}
    change_json(at / "config.json", is_turbo=True, model_version="turbo", encoder_hidden_size=None, **sizes)
    built = AceStepTransformer1DModel.from_config(json.loads((at / "config.json").read_text()))
    assert isinstance(built, AceStepTransformer1DModel)
    built.save_pretrained(at)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@cache
def _default() -> Path:
    return uniform(Path(tempfile.mkdtemp(), "uniform"))


def weights(source: Path) -> dict[str, Tensor]:
    """Every tensor of a diffusers checkpoint that the official file holds, under official names."""
    return {
        official_name(component, name): tensor
        for component in PREFIXES
        for name, tensor in load_file(source / component / SAFE).items()
        if name != "silence_latent"
    }


def configuration(source: Path) -> dict[str, Any]:
    """The official `config.json` of a diffusers checkpoint, the encoder's sizes apart from the DiT's as in XL."""
    read = {name: json.loads((source / name / "config.json").read_text()) for name in PREFIXES}
    dit, encoder, tokenizer = read["transformer"], read["condition_encoder"], read["audio_tokenizer"]
    merged = {**tokenizer, **encoder, **dit, **{f"encoder_{key}": encoder[key] for key in SIZES}}
    kept = {key: value for key, value in merged.items() if not key.startswith("_")}
    return kept | {
        "architectures": ["AceStepConditionGenerationModel"],
        "auto_map": {"AutoModel": "modeling_acestep_v15_turbo.AceStepConditionGenerationModel"},
        "layer_types": ["sliding_attention", "full_attention"] * (dit["num_hidden_layers"] // 2),
        "max_position_embeddings": 32768,
        "model_type": "acestep",
        "timbre_fix_frame": 750,
        "timestep_mu": -0.4,
        "timestep_sigma": 1.0,
        "data_proportion": 0.5,
        "use_sliding_window": True,
    }


def write_official(
    parent: Path, release: str = "acestep-v15-base", shards: int = 1, source: Path | None = None, **changes: Any
) -> Path:
    """Write `source` in the official layout below `parent`, with `changes` to its configuration; the variant's folder.

    `vae/` and `Qwen3-Embedding-0.6B/` lie beside it. With several shards there is an index.
    """
    source = source or _default()
    folder = parent / release
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(configuration(source) | changes))
    (folder / "modeling_acestep_v15_turbo.py").write_text("raise SystemExit('code of a checkpoint was run')")
    silence = load_file(source / "condition_encoder" / SAFE)["silence_latent"]
    torch.save(silence.transpose(1, 2).contiguous(), folder / "silence_latent.pt")
    write_weights(folder, weights(source), shards)
    if not (parent / "vae").exists():
        shutil.copytree(source / "vae", parent / "vae")
        shutil.copytree(source / "text_encoder", parent / "Qwen3-Embedding-0.6B")
        shutil.copytree(source / "tokenizer", parent / "Qwen3-Embedding-0.6B", dirs_exist_ok=True)
    return folder


def write_weights(folder: Path, tensors: Mapping[str, Tensor], shards: int) -> None:
    """`model.safetensors`, or that many shards under an index."""
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    parts = {f"model-{part + 1:05}-of-{shards:05}.safetensors": names[part::shards] for part in range(shards)}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: file for file, held in parts.items() for name in held},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
