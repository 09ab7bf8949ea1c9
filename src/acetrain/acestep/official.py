"""What the official `config.json` says of each component, in diffusers' words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acetrain.errors import Refused

OF_PREFIX = {
    "decoder": "transformer",
    "encoder": "condition_encoder",
    "null_condition_emb": "condition_encoder",
    "tokenizer": "audio_tokenizer",
    "detokenizer": "audio_token_detokenizer",
}
"""First part of an official tensor name -> the component it belongs to."""

_ALL = ("head_dim", "rope_theta", "attention_bias", "attention_dropout", "rms_norm_eps", "sliding_window")
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
_POOLED = ("audio_acoustic_hidden_dim", "pool_window_size", "num_attention_pooler_hidden_layers")
_KEYS = {
    "transformer": (
        *("num_hidden_layers", "in_channels", "audio_acoustic_hidden_dim", "patch_size", "layer_types"),
        *("is_turbo", "model_version"),
    ),
    "condition_encoder": (
        *("text_hidden_dim", "timbre_hidden_dim", "num_lyric_encoder_hidden_layers"),
        "num_timbre_encoder_hidden_layers",
    ),
    "audio_tokenizer": (*_POOLED, "fsq_dim", "fsq_input_levels", "fsq_input_num_quantizers"),
    "audio_token_detokenizer": _POOLED,
}
_NEEDED = ("hidden_size", "num_attention_heads", "num_hidden_layers", "in_channels", "text_hidden_dim")


def component_config(component: str, released: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The configuration of one component out of the variant's, which `file` holds.

    XL gives its encoder and tokenizers sizes of their own under `encoder_`; elsewhere they have the DiT's (upstream
    `convert_ace_step_to_diffusers`). Raises `Refused` where the file lacks a size.
    """
    for key in _NEEDED:
        if not isinstance(released.get(key), int):
            raise Refused(f"model: {file} has no {key}: it is not the configuration of an ACE-Step 1.5 checkpoint")
    config = {key: released[key] for key in (*_ALL, *_KEYS[component]) if key in released}
    narrow = "" if component == "transformer" else "encoder_"
    config |= {key: released.get(f"{narrow}{key}", released[key]) for key in _SIZES if key in released}
    if component == "transformer":
        config["encoder_hidden_size"] = released.get("encoder_hidden_size", released["hidden_size"])
    elif component.startswith("audio_"):
        config["layer_types"] = _pooler_layers(released)
    if component == "audio_tokenizer":
        config.setdefault("fsq_dim", config["hidden_size"])
    return config


def released_config(configs: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """The variant's configuration out of those of its components, in diffusers' words: the inverse of
    `component_config`.

    Raises `Refused` where the components of the checkpoint in `folder` differ in what is said once for all.
    """
    released: dict[str, Any] = {"model_type": "acestep"}
    for component in reversed(_KEYS):  # the DiT's last, whose sizes are the variant's
        own = configs[component]
        said = (*_ALL, *_SIZES, *_KEYS[component])
        released |= {key: own[key] for key in said if own.get(key) is not None}
    dit, encoder = configs["transformer"], configs["condition_encoder"]
    released |= {f"encoder_{key}": encoder[key] for key in _SIZES if encoder[key] != dit[key]}
    if dit.get("encoder_hidden_size"):
        released["encoder_hidden_size"] = dit["encoder_hidden_size"]
    for component, own in configs.items():
        back = component_config(component, released, folder)
        for key, value in own.items():
            if not key.startswith("_") and value is not None and back.get(key) != value:
                other = f"has {key} {value} in its {component}, and {back.get(key)} where the official layout says it"
                raise Refused(f"layout: must be diffusers or keep, as {folder} {other}")
    return released


def _pooler_layers(released: Mapping[str, Any]) -> list[str] | None:
    kinds = released.get("layer_types")
    return kinds[: released.get("num_attention_pooler_hidden_layers", 2)] if kinds else None


def variant_of(transformer: Mapping[str, Any]) -> str:
    """The variant a DiT's configuration tells: `turbo`, `base` or `sft`, with `xl_` before it; empty where it tells
    none. XL is told by a condition narrower than the DiT."""
    version = str(transformer.get("model_version") or "").lower()
    kinds = [kind for kind in ("turbo", "base", "sft") if kind in version]
    kind = "turbo" if transformer.get("is_turbo") else kinds[0] if kinds else ""
    width = transformer.get("encoder_hidden_size") or transformer["hidden_size"]
    return f"xl_{kind}" if kind and width != transformer["hidden_size"] else kind
