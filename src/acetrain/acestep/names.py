"""Module names of the DiT: the linear layers a configuration implies, and the two spellings of them.

The official checkpoint and diffusers name the attention projections differently (`q_proj` against `to_q`); all else
agrees.
"""

from collections.abc import Mapping
from typing import Any

OFFICIAL = {
    "to_q": "q_proj",
    "to_k": "k_proj",
    "to_v": "v_proj",
    "to_out.0": "o_proj",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
}
"""diffusers' name of an attention part -> the official one."""

_ATTENTIONS = ("self_attn", "cross_attn")


def official(name: str) -> str:
    """The official spelling of a diffusers module or tensor name, without the checkpoint's `decoder.` prefix."""
    for ours, theirs in OFFICIAL.items():
        for attention in _ATTENTIONS:
            name = _replace_part(name, f"{attention}.{ours}", f"{attention}.{theirs}")
    return _replace_part(_replace_part(name, "proj_in_conv", "proj_in.1"), "proj_out_conv", "proj_out.1")


def diffusers(name: str) -> str:
    """The diffusers spelling of an official module or tensor name: the inverse of `official`."""
    for ours, theirs in OFFICIAL.items():
        for attention in _ATTENTIONS:
            name = _replace_part(name, f"{attention}.{theirs}", f"{attention}.{ours}")
    return _replace_part(_replace_part(name, "proj_in.1", "proj_in_conv"), "proj_out.1", "proj_out_conv")


def linear_layers(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The linear layers of the DiT that `transformer/config.json` describes: diffusers name -> (outputs, inputs).

    Written down from the configuration so that targets can be checked without a weight; a test holds it to the model.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    attention = {"to_q": (queries, width), "to_k": (keys, width), "to_v": (keys, width), "to_out.0": (width, queries)}
    layers: dict[str, tuple[int, int]] = {}
    for index in range(config["num_hidden_layers"]):
        for kind in _ATTENTIONS:
            layers |= {f"layers.{index}.{kind}.{part}": shape for part, shape in attention.items()}
        layers[f"layers.{index}.mlp.gate_proj"] = layers[f"layers.{index}.mlp.up_proj"] = (inner, width)
        layers[f"layers.{index}.mlp.down_proj"] = (width, inner)
    for embedding in ("time_embed", "time_embed_r"):
        layers |= {f"{embedding}.linear_1": (width, 256), f"{embedding}.linear_2": (width, width)}
        layers[f"{embedding}.time_proj"] = (6 * width, width)
    layers["condition_embedder"] = (width, config.get("encoder_hidden_size") or width)
    return layers


def _replace_part(name: str, old: str, new: str) -> str:
    """Replace `old` where it stands as whole dotted parts of `name`."""
    return f".{name}.".replace(f".{old}.", f".{new}.")[1:-1]
